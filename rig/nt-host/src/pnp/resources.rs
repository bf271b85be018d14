//! Resource lists: the kernel's packed structures on one side, plain Rust values on the other.
//!
//! ```text
//!   IO_RESOURCE_REQUIREMENTS_LIST ──read──> Requirements ──arbiter──> Assigned ──list──> CM_RESOURCE_LIST
//!                                                                    (raw, translated)
//! ```

use alloc::vec::Vec;

use nt_sys::{
    CM_FULL_RESOURCE_DESCRIPTOR, CM_INTERRUPT, CM_PARTIAL_RESOURCE, CM_PARTIAL_RESOURCE_DESCRIPTOR,
    CM_RANGE, CM_RESOURCE_INTERRUPT_MESSAGE, CM_RESOURCE_INTERRUPT_POLICY_INCLUDED,
    CmResourceTypeInterrupt, CmResourceTypeMemory, CmResourceTypePort, IO_INTERRUPT, IO_RANGE,
    IO_RESOURCE, IO_RESOURCE_DESCRIPTOR, IO_RESOURCE_LIST, IO_RESOURCE_REQUIREMENTS_LIST,
    IrqPolicySpecifiedProcessors,
};

/// One resource that a device asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// IO_RESOURCE_PREFERRED and so on; 0 is required.
    pub option: u8,
    /// CM_SHARE_DISPOSITION.
    pub share: u8,
    /// CM_RESOURCE_* flags of the type.
    pub flags: u16,
    /// What is asked for.
    pub what: Want,
}

/// What a requirement is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// I/O ports.
    Port(Range),
    /// Memory.
    Memory(Range),
    /// A line or message interrupt.
    Interrupt {
        /// Lowest acceptable line.
        minimum: u32,
        /// Highest acceptable line.
        maximum: u32,
        /// The processors it may go to, 0 for any.
        processors: u64,
    },
    /// Something with which only its bus deals.
    Other(u8),
}

/// A range of addresses that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// Bytes.
    pub length: u32,
    /// Power of two, in bytes.
    pub alignment: u32,
    /// Lowest acceptable start.
    pub minimum: u64,
    /// Highest acceptable last byte.
    pub maximum: u64,
}

/// A requirements list: alternatives, of which one is to be met whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requirements {
    /// INTERFACE_TYPE of the bus.
    pub interface: i32,
    /// Number of the bus.
    pub bus: u32,
    /// Slot on the bus.
    pub slot: u32,
    /// The alternatives.
    pub lists: Vec<Vec<Requirement>>,
}

impl Requirements {
    /// Reads a list that a driver made.
    ///
    /// # Safety
    /// `list` is a valid requirements list of its own `ListSize`.
    pub unsafe fn read(list: *const IO_RESOURCE_REQUIREMENTS_LIST) -> Self {
        // SAFETY: the caller's promise.
        let head = unsafe { &*list };
        let end = (list as usize).saturating_add(head.ListSize as usize);
        let mut at = (&raw const head.List).cast::<u8>();
        let mut lists = Vec::new();
        for _ in 0..head.AlternativeLists {
            // The first list's own descriptor is not part of its head.
            let first = at
                .wrapping_add(size_of::<IO_RESOURCE_LIST>() - size_of::<IO_RESOURCE_DESCRIPTOR>());
            if first as usize > end {
                break;
            }
            // SAFETY: the head of an alternative lies within the list, as just checked.
            let count = unsafe { (*at.cast::<IO_RESOURCE_LIST>()).Count } as usize;
            let mut requirements = Vec::new();
            for index in 0..count {
                let descriptor = first.wrapping_add(index * size_of::<IO_RESOURCE_DESCRIPTOR>());
                if (descriptor as usize).saturating_add(size_of::<IO_RESOURCE_DESCRIPTOR>()) > end {
                    break;
                }
                // SAFETY: the descriptor lies within the list, as just checked.
                requirements.push(Requirement::read(unsafe {
                    &*descriptor.cast::<IO_RESOURCE_DESCRIPTOR>()
                }));
            }
            at = first.wrapping_add(count.saturating_mul(size_of::<IO_RESOURCE_DESCRIPTOR>()));
            lists.push(requirements);
        }
        Self {
            interface: head.InterfaceType,
            bus: head.BusNumber,
            slot: head.SlotNumber,
            lists,
        }
    }

    /// The list's bytes in the kernel's layout, 8-byte words.
    pub fn words(&self) -> Vec<u64> {
        const HEAD: usize = 32;
        const LIST_HEAD: usize =
            size_of::<IO_RESOURCE_LIST>() - size_of::<IO_RESOURCE_DESCRIPTOR>();
        let descriptors: usize = self.lists.iter().map(Vec::len).sum();
        let size =
            HEAD + self.lists.len() * LIST_HEAD + descriptors * size_of::<IO_RESOURCE_DESCRIPTOR>();
        let size = size.max(size_of::<IO_RESOURCE_REQUIREMENTS_LIST>());
        let mut words = Words::new(size);
        words.u32(0, size as u32);
        words.u32(4, self.interface.cast_unsigned());
        words.u32(8, self.bus);
        words.u32(12, self.slot);
        words.u32(28, self.lists.len() as u32);
        let mut at = HEAD;
        for list in &self.lists {
            // Version 1, revision 1 (wdm.h).
            words.u32(at, 0x0001_0001);
            words.u32(at + 4, list.len() as u32);
            at += LIST_HEAD;
            for requirement in list {
                words.put(at, requirement.descriptor());
                at += size_of::<IO_RESOURCE_DESCRIPTOR>();
            }
        }
        words.0
    }
}

impl Requirement {
    fn read(descriptor: &IO_RESOURCE_DESCRIPTOR) -> Self {
        let range = || {
            // SAFETY: every member of the union is plain numbers.
            let range = unsafe { descriptor.u.Generic };
            Range {
                length: range.Length,
                alignment: range.Alignment.max(1),
                minimum: range.MinimumAddress.cast_unsigned(),
                maximum: range.MaximumAddress.cast_unsigned(),
            }
        };
        let what = match descriptor.Type {
            CmResourceTypePort => Want::Port(range()),
            CmResourceTypeMemory => Want::Memory(range()),
            CmResourceTypeInterrupt => {
                // SAFETY: every member of the union is plain numbers.
                let interrupt = unsafe { descriptor.u.Interrupt };
                let policy = descriptor.Flags & CM_RESOURCE_INTERRUPT_POLICY_INCLUDED != 0
                    && interrupt.AffinityPolicy == IrqPolicySpecifiedProcessors;
                Want::Interrupt {
                    minimum: interrupt.MinimumVector,
                    maximum: interrupt.MaximumVector,
                    processors: if policy {
                        interrupt.TargetedProcessors
                    } else {
                        0
                    },
                }
            }
            other => Want::Other(other),
        };
        Self {
            option: descriptor.Option,
            share: descriptor.ShareDisposition,
            flags: descriptor.Flags,
            what,
        }
    }

    fn descriptor(&self) -> IO_RESOURCE_DESCRIPTOR {
        let range = |range: Range| IO_RANGE {
            Length: range.length,
            Alignment: range.alignment,
            MinimumAddress: range.minimum.cast_signed(),
            MaximumAddress: range.maximum.cast_signed(),
        };
        let (kind, u) = match self.what {
            Want::Port(ports) => (CmResourceTypePort, IO_RESOURCE { Port: range(ports) }),
            Want::Memory(memory) => (
                CmResourceTypeMemory,
                IO_RESOURCE {
                    Memory: range(memory),
                },
            ),
            Want::Interrupt {
                minimum,
                maximum,
                processors,
            } => {
                let interrupt = IO_INTERRUPT {
                    MinimumVector: minimum,
                    MaximumVector: maximum,
                    AffinityPolicy: if processors != 0 {
                        IrqPolicySpecifiedProcessors
                    } else {
                        0
                    },
                    Group: 0,
                    PriorityPolicy: 0,
                    TargetedProcessors: processors,
                };
                (
                    CmResourceTypeInterrupt,
                    IO_RESOURCE {
                        Interrupt: interrupt,
                    },
                )
            }
            Want::Other(kind) => (
                kind,
                IO_RESOURCE {
                    DevicePrivate: [0; 3],
                },
            ),
        };
        IO_RESOURCE_DESCRIPTOR {
            Option: self.option,
            Type: kind,
            ShareDisposition: self.share,
            Spare1: 0,
            Flags: self.flags,
            Spare2: 0,
            u,
        }
    }

    /// Whether a message interrupt is asked for.
    pub fn is_message(&self) -> bool {
        matches!(self.what, Want::Interrupt { .. })
            && self.flags & CM_RESOURCE_INTERRUPT_MESSAGE != 0
    }
}

/// A resource that a device has been given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resource {
    /// CM_SHARE_DISPOSITION.
    pub share: u8,
    /// CM_RESOURCE_* flags of the type.
    pub flags: u16,
    /// What was given.
    pub what: Given,
}

/// What a resource is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Given {
    /// I/O ports from `start`, `length` of them.
    Port(u64, u32),
    /// Memory from `start`, `length` bytes.
    Memory(u64, u32),
    /// An interrupt: the line as the bus has it, and what the processors see.
    Interrupt {
        /// GSI of a line; the vector for messages.
        line: u32,
        /// Interrupt vector.
        vector: u32,
        /// Mask of processors.
        processors: u64,
    },
}

/// What a device writes, and where, to send a message with this vector to the first of these processors (Intel SDM,
/// "Message Signalled Interrupts": address and data registers).
pub fn message(vector: u32, processors: u64) -> (u64, u32) {
    const LOCAL_APICS: u64 = 0xFEE0_0000;
    let processor = u64::from(processors.trailing_zeros().min(63));
    (LOCAL_APICS | processor << 12, vector)
}

/// Which of the two lists of IRP_MN_START_DEVICE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// As the bus has them.
    Raw,
    /// As the processors have them.
    Translated,
}

impl Resource {
    /// Whether it is a message interrupt.
    pub fn is_message(&self) -> bool {
        matches!(self.what, Given::Interrupt { .. })
            && self.flags & CM_RESOURCE_INTERRUPT_MESSAGE != 0
    }

    fn descriptor(&self, view: View) -> CM_PARTIAL_RESOURCE_DESCRIPTOR {
        let range = |start: u64, length| CM_RANGE {
            Start: start.cast_signed(),
            Length: length,
        };
        let (kind, u) = match self.what {
            Given::Port(start, length) => (
                CmResourceTypePort,
                CM_PARTIAL_RESOURCE {
                    Port: range(start, length),
                },
            ),
            Given::Memory(start, length) => (
                CmResourceTypeMemory,
                CM_PARTIAL_RESOURCE {
                    Memory: range(start, length),
                },
            ),
            Given::Interrupt {
                line,
                vector,
                processors,
            } => {
                let message = self.is_message();
                let u = match view {
                    View::Raw if message => CM_PARTIAL_RESOURCE {
                        MessageInterruptRaw: nt_sys::CM_MESSAGE_INTERRUPT_RAW {
                            Group: 0,
                            MessageCount: 1,
                            Vector: vector,
                            Affinity: processors,
                        },
                    },
                    View::Raw => CM_PARTIAL_RESOURCE {
                        Interrupt: CM_INTERRUPT {
                            Level: line as u16,
                            Group: 0,
                            Vector: line,
                            Affinity: processors,
                        },
                    },
                    View::Translated => CM_PARTIAL_RESOURCE {
                        Interrupt: CM_INTERRUPT {
                            // On x64 the IRQL of a vector is its upper four bits.
                            Level: (vector >> 4) as u16,
                            Group: 0,
                            Vector: vector,
                            Affinity: processors,
                        },
                    },
                };
                (CmResourceTypeInterrupt, u)
            }
        };
        CM_PARTIAL_RESOURCE_DESCRIPTOR {
            Type: kind,
            ShareDisposition: self.share,
            Flags: self.flags,
            u,
        }
    }
}

/// A CM_RESOURCE_LIST's bytes, 8-byte words; empty for no resources, for which START gets a null pointer.
pub fn list(interface: i32, bus: u32, resources: &[Resource], view: View) -> Vec<u64> {
    if resources.is_empty() {
        return Vec::new();
    }
    const FIRST: usize =
        4 + size_of::<CM_FULL_RESOURCE_DESCRIPTOR>() - size_of::<CM_PARTIAL_RESOURCE_DESCRIPTOR>();
    let mut words =
        Words::new(FIRST + resources.len() * size_of::<CM_PARTIAL_RESOURCE_DESCRIPTOR>());
    words.u32(0, 1);
    words.u32(4, interface.cast_unsigned());
    words.u32(8, bus);
    words.u32(12, 0x0001_0001);
    words.u32(16, resources.len() as u32);
    for (index, resource) in resources.iter().enumerate() {
        words.put(
            FIRST + index * size_of::<CM_PARTIAL_RESOURCE_DESCRIPTOR>(),
            resource.descriptor(view),
        );
    }
    words.0
}

/// Zeroed memory, aligned to 8, that structures are laid into.
struct Words(Vec<u64>);

impl Words {
    fn new(bytes: usize) -> Self {
        Self(alloc::vec![0; bytes.div_ceil(8)])
    }

    fn u32(&mut self, at: usize, number: u32) {
        self.put(at, number);
    }

    fn put<T: Copy>(&mut self, at: usize, value: T) {
        assert!(
            at + size_of::<T>() <= self.0.len() * 8,
            "structures are laid into memory of their size"
        );
        let place = self
            .0
            .as_mut_ptr()
            .cast::<u8>()
            .wrapping_add(at)
            .cast::<T>();
        // SAFETY: the place lies within the vector, as just checked.
        unsafe { place.write_unaligned(value) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use nt_sys::{
        CM_RESOURCE_INTERRUPT_LATCHED, CM_RESOURCE_LIST, CmResourceShareDeviceExclusive, PCIBus,
    };

    #[test]
    fn requirements_survive_their_own_layout() {
        let line = Requirement {
            option: 0,
            share: 3,
            flags: 0,
            what: Want::Interrupt {
                minimum: 28,
                maximum: 28,
                processors: 0,
            },
        };
        let memory = Requirement {
            option: 0,
            share: 1,
            flags: 4,
            what: Want::Memory(Range {
                length: 4096,
                alignment: 4096,
                minimum: 0,
                maximum: u64::MAX,
            }),
        };
        let message = Requirement {
            option: 0,
            share: 1,
            flags: CM_RESOURCE_INTERRUPT_MESSAGE | CM_RESOURCE_INTERRUPT_POLICY_INCLUDED,
            what: Want::Interrupt {
                minimum: !1,
                maximum: !1,
                processors: 2,
            },
        };
        let lists = vec![vec![line, memory, message], vec![line], vec![]];
        let all = Requirements {
            interface: PCIBus,
            bus: 1,
            slot: 2,
            lists,
        };
        let words = all.words();
        // SAFETY: the words are such a list.
        assert_eq!(unsafe { Requirements::read(words.as_ptr().cast()) }, all);
        assert!(message.is_message() && !line.is_message());
    }

    #[test]
    fn a_list_shows_each_view_of_an_interrupt() {
        let resource = Resource {
            share: CmResourceShareDeviceExclusive,
            flags: CM_RESOURCE_INTERRUPT_LATCHED | CM_RESOURCE_INTERRUPT_MESSAGE,
            what: Given::Interrupt {
                line: 0,
                vector: 0x91,
                processors: 2,
            },
        };
        let read = |view| {
            let words = list(PCIBus, 0, &[resource], view);
            // SAFETY: the words are such a list with one descriptor.
            unsafe { *words.as_ptr().cast::<CM_RESOURCE_LIST>() }.List[0]
                .PartialResourceList
                .PartialDescriptors[0]
        };
        // SAFETY: the union holds what was written.
        let interrupt = unsafe { read(View::Translated).u.Interrupt };
        assert_eq!(
            ({ interrupt.Level }, { interrupt.Vector }, {
                interrupt.Affinity
            }),
            (9, 0x91, 2)
        );
        // SAFETY: the union holds what was written.
        let raw = unsafe { read(View::Raw).u.MessageInterruptRaw };
        assert_eq!(({ raw.MessageCount }, { raw.Vector }), (1, 0x91));
        assert!(list(PCIBus, 0, &[], View::Raw).is_empty());
    }
}
