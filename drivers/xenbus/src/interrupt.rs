//! The interrupts of the platform device: its line, and a message for each processor.
//!
//! Windows gives the device what FILTER_RESOURCE_REQUIREMENTS asks for. A message interrupt here is only a vector on one
//! processor: nothing in hardware raises it, Xen does, when an event for that processor is pending.

use crate::bus::Bus;
use alloc::sync::Arc;
use alloc::vec::Vec;
use nt::interrupt::InterruptSpec;
use nt::processor::{self, ProcessorNumber};
use nt::resources::{Descriptor, RequirementsList, Resource, ResourceList};
use nt::{DeviceObject, Interrupt, NtStatus, Result, try_arc};
use nt_sys::{
    CM_RESOURCE_INTERRUPT_LATCHED, CM_RESOURCE_INTERRUPT_MESSAGE,
    CM_RESOURCE_INTERRUPT_MESSAGE_TOKEN, CM_RESOURCE_INTERRUPT_POLICY_INCLUDED,
    CmResourceShareDeviceExclusive, CmResourceShareShared, CmResourceTypeDevicePrivate,
    CmResourceTypeInterrupt, IO_INTERRUPT, IO_RESOURCE, IO_RESOURCE_DESCRIPTOR,
    IrqPolicySpecifiedProcessors, IrqPriorityUndefined,
};

/// Where events can be delivered. Cloning it takes no memory.
#[derive(Clone, Debug, Default)]
pub struct Vectors {
    /// The global system interrupt of the line.
    line: Option<u32>,
    /// By processor: the vector of its message.
    messages: Option<Arc<Vec<(u32, u8)>>>,
}

impl Vectors {
    /// The global system interrupt of the line.
    pub fn line(&self) -> Option<u32> {
        self.line
    }

    /// The line alone.
    pub fn line_only(self) -> Self {
        Self {
            messages: None,
            ..self
        }
    }

    /// The vector of a processor.
    pub fn message(&self, cpu: u32) -> Option<u8> {
        self.messages
            .iter()
            .flat_map(|messages| messages.iter())
            .find(|(owner, _)| *owner == cpu)
            .map(|&(_, vector)| vector)
    }
}

/// Asks for a message on each processor, and for the line on processor 0. FILTER_RESOURCE_REQUIREMENTS.
pub fn require(requirements: RequirementsList<'_>) -> Result<()> {
    let mut messages = Vec::new();
    let count = processor::active_count();
    messages.try_reserve_exact(count as usize)?;
    for cpu in 0..count {
        messages.push(message(ProcessorNumber::from_index(cpu)?));
    }
    requirements.amend(
        |descriptor| {
            if descriptor.Type == CmResourceTypeInterrupt {
                descriptor.Flags |= CM_RESOURCE_INTERRUPT_POLICY_INCLUDED;
                // SAFETY: the type says which member is meant.
                let interrupt = unsafe { &mut descriptor.u.Interrupt };
                interrupt.AffinityPolicy = IrqPolicySpecifiedProcessors;
                interrupt.Group = 0;
                interrupt.TargetedProcessors = 1;
            }
        },
        &messages,
    )
}

fn message(processor: ProcessorNumber) -> IO_RESOURCE_DESCRIPTOR {
    IO_RESOURCE_DESCRIPTOR {
        Option: 0,
        Type: CmResourceTypeInterrupt,
        ShareDisposition: CmResourceShareDeviceExclusive,
        Spare1: 0,
        Flags: CM_RESOURCE_INTERRUPT_LATCHED
            | CM_RESOURCE_INTERRUPT_MESSAGE
            | CM_RESOURCE_INTERRUPT_POLICY_INCLUDED,
        Spare2: 0,
        u: IO_RESOURCE {
            Interrupt: IO_INTERRUPT {
                MinimumVector: CM_RESOURCE_INTERRUPT_MESSAGE_TOKEN,
                MaximumVector: CM_RESOURCE_INTERRUPT_MESSAGE_TOKEN,
                AffinityPolicy: IrqPolicySpecifiedProcessors,
                Group: processor.group,
                PriorityPolicy: IrqPriorityUndefined,
                TargetedProcessors: 1u64.checked_shl(processor.number.into()).unwrap_or(0),
            },
        },
    }
}

/// What START assigned.
#[derive(Debug)]
pub struct Assigned {
    specs: Vec<(InterruptSpec, u32)>,
}

impl Assigned {
    /// Takes the interrupts from the lists of START, and hides the messages from the drivers below, which would look for them
    /// in the device.
    pub fn take<'i>(raw: &mut ResourceList<'i>, translated: &mut ResourceList<'i>) -> Result<Self> {
        let mut specs = Vec::new();
        for (raw, translated) in raw.iter().zip(translated.iter()) {
            if let Some(assigned) = interrupt(&raw, &translated) {
                specs.try_reserve(1)?;
                specs.push(assigned);
            }
        }
        for list in [raw, translated] {
            list.retype(|descriptor| {
                let message = descriptor.kind == CmResourceTypeInterrupt
                    && descriptor.flags & CM_RESOURCE_INTERRUPT_MESSAGE != 0;
                message.then_some(CmResourceTypeDevicePrivate)
            });
        }
        Ok(Self { specs })
    }

    /// Connects the interrupts to the event channels of `bus`. PASSIVE_LEVEL.
    pub fn connect(
        &self,
        physical: &DeviceObject,
        bus: &Arc<Bus>,
    ) -> Result<(Vec<Interrupt>, Vectors)> {
        let mut connected = Vec::new();
        connected.try_reserve_exact(self.specs.len())?;
        let mut line = None;
        let mut messages = Vec::new();
        messages.try_reserve_exact(self.specs.len())?;
        for &(spec, raw_vector) in &self.specs {
            let target = Arc::clone(bus);
            let routine = move || target.evtchn.upcall(&target);
            let interrupt = match Interrupt::connect(physical, spec, routine) {
                Ok(interrupt) => interrupt,
                // One processor without its own vector can be served through another.
                Err(status) if spec.latched => {
                    nt::warning!(
                        "no message interrupt at vector {:#x}: {status}",
                        spec.vector
                    );
                    continue;
                }
                Err(status) => return Err(status),
            };
            connected.push(interrupt);
            if !spec.latched {
                line = Some(raw_vector);
            } else if let (Ok(cpu), Ok(vector)) = (cpu(&spec), u8::try_from(spec.vector)) {
                messages.push((cpu, vector));
            }
        }
        nt::info!("line {line:?}, messages {messages:?}");
        let messages = Some(try_arc(messages)?);
        Ok((connected, Vectors { line, messages }))
    }
}

/// The processor that a message interrupts: the highest of its affinity.
fn cpu(spec: &InterruptSpec) -> Result<u32> {
    let highest = spec
        .affinity
        .checked_ilog2()
        .ok_or(NtStatus::INVALID_PARAMETER)?;
    let number = u8::try_from(highest).map_err(|_| NtStatus::INVALID_PARAMETER)?;
    ProcessorNumber {
        group: spec.group,
        number,
    }
    .index()
}

/// An interrupt to connect, and its raw vector.
fn interrupt(raw: &Descriptor, translated: &Descriptor) -> Option<(InterruptSpec, u32)> {
    let Resource::Interrupt {
        vector: raw_vector, ..
    } = raw.resource
    else {
        return None;
    };
    let Resource::Interrupt {
        level,
        group,
        vector,
        affinity,
    } = translated.resource
    else {
        return None;
    };
    let spec = InterruptSpec {
        vector,
        irql: u8::try_from(level).ok()?,
        group,
        affinity,
        latched: translated.flags & CM_RESOURCE_INTERRUPT_LATCHED != 0,
        shared: translated.share == CmResourceShareShared,
    };
    Some((spec, raw_vector))
}
