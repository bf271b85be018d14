//! The events. Each has a number that never changes its meaning, fields of 64 bits, and perhaps a text.
//!
//! | field | what it holds |
//! |---|---|
//! | `driver` | number of an image, see the [`table::DRIVER`] names; 0 is the executive |
//! | `rva` | offset of code in that image |
//! | `request` | number of a disk request, from 1: follows it through every layer |
//! | `target` | SCSI target: 0 is xvda |
//! | `adapter` | number of a network adapter, from 1 |
//! | `list` | address of a NET_BUFFER_LIST |
//! | `vdev` | Xen's virtual device number: 51712 is xvda |
//! | `address`, `page` | guest-physical address, frame number |
//! | `status` | an `NTSTATUS`, `SrbStatus` or blkif status, sign-extended |

/// Kinds of events that can be wanted apart from others: bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Class {
    /// Names of numbers, and markers: always wanted.
    Name = 1,
    /// Kernel functions that drivers call.
    Call = 2,
    /// IRQLs, threads, DPCs, interrupts, timers, work items.
    Kernel = 4,
    /// IRPs, with what they ask of PnP and power.
    Irp = 8,
    /// Disk requests and SRBs.
    Disk = 16,
    /// Hypercalls, events, grants, xenstore.
    Xen = 32,
    /// Backends' requests.
    Backend = 64,
    /// Network adapters: frames, requests, states.
    Net = 128,
}

impl Class {
    /// Every class.
    pub const ALL: u32 = 255;
    /// Every class but the calls of kernel functions, which are most of all events.
    pub const USUAL: u32 = Self::ALL & !(Self::Call as u32) & !(Self::Irql as u32);
    /// The changes of the IRQL, which come with nearly every call: wanted with them.
    #[allow(non_upper_case_globals, reason = "named as the variants are")]
    pub const Irql: Self = Self::Call;
}

/// What a [`Event::Name`] names.
pub mod table {
    /// An image, by its number.
    pub const DRIVER: u64 = 1;
    /// A kernel function, by its number in this trace.
    pub const FUNCTION: u64 = 2;
    /// A device, by its number.
    pub const DEVICE: u64 = 3;
    /// A thread of the host that is no virtual CPU, by its number.
    pub const HOST_THREAD: u64 = 4;
}

macro_rules! events {
    ($($(#[$doc:meta])* $number:literal $class:ident $name:ident { $($field:ident),* } $(+ $text:ident)?;)*) => {
        /// An event. See the module for what its fields hold.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "the fields' names are explained once, in the module")]
        pub enum Event<'a> {
            $($(#[$doc])* $name { $($field: u64,)* $($text: &'a str)? },)*
            /// One that this reader does not know.
            Unknown { number: u16, words: &'a [u64] },
        }

        /// What is known of a kind of event.
        #[derive(Debug)]
        pub struct Kind {
            /// Its number in a file.
            pub number: u16,
            /// Its name.
            pub name: &'static str,
            /// Its fields, in order.
            pub fields: &'static [&'static str],
            /// Whether a text follows the fields.
            pub text: bool,
            /// Its class.
            pub class: Class,
        }

        impl Kind {
            /// Every kind.
            pub const ALL: &'static [Kind] = &[$(Kind {
                number: $number,
                name: stringify!($name),
                fields: &[$(stringify!($field)),*],
                text: [$(stringify!($text),)? ""].len() == 2,
                class: Class::$class,
            }),*];
        }

        impl<'a> Event<'a> {
            /// What is known of its kind; `None` for one that this reader does not know.
            pub fn kind(&self) -> Option<&'static Kind> {
                let (number, _) = self.take_apart(|_| ());
                Kind::ALL.iter().find(|kind| kind.number == number)
            }

            /// Its number, its fields and its text.
            pub fn take_apart(&self, mut field: impl FnMut(u64)) -> (u16, Option<&'a str>) {
                match *self {
                    $(Self::$name { $($field,)* $($text)? } => {
                        $(field($field);)*
                        ($number, None $(.or(Some($text)))?)
                    })*
                    Self::Unknown { number, words } => {
                        words.iter().for_each(|word| field(*word));
                        (number, None)
                    }
                }
            }

            /// The event of that number with these fields and text; one that does not fit is `Unknown`.
            pub(crate) fn put_together(number: u16, words: &'a [u64], read: &dyn Fn(&'a [u64]) -> Option<&'a str>) -> Self {
                let whole = || match number {
                    $($number => {
                        let rest = words;
                        $(let (&$field, rest) = rest.split_first()?;)*
                        $(let $text = read(rest)?;)?
                        // Fields that a later version added are left out.
                        let _ = rest;
                        Some(Self::$name { $($field,)* $($text)? })
                    })*
                    _ => None,
                };
                whole().unwrap_or(Self::Unknown { number, words })
            }
        }
    };
}

events! {
    /// What number `id` of `table` is called.
    1 Name Name { table, id } + text;
    /// A word of the one who made the trace: a scenario's step.
    2 Name Mark {} + text;

    /// A driver calls a kernel function; `rva` is where it goes on.
    16 Call CallEnter { driver, function, rva, irql };
    /// The function returns.
    17 Call CallLeave { driver, function, irql };
    /// The IRQL changes other than by an interrupt or a DPC.
    18 Call Irql { from, to };

    /// The CPU runs another thread.
    32 Kernel Switch { from, to };
    /// A thread is made.
    33 Kernel ThreadStart { thread, driver, rva };
    /// A thread ends.
    34 Kernel ThreadEnd { thread };
    /// A DPC is queued on a CPU.
    35 Kernel DpcQueue { driver, rva, on };
    /// A DPC starts to run.
    36 Kernel DpcRun { driver, rva };
    /// It has returned.
    37 Kernel DpcEnd { driver, rva };
    /// A vector is requested on a CPU.
    38 Kernel InterruptRaise { on, vector };
    /// An interrupt routine starts to run.
    39 Kernel InterruptRun { vector, driver, rva };
    /// It has returned.
    40 Kernel InterruptEnd { vector };
    /// A timer is set, due at this interrupt time (100 ns units).
    41 Kernel TimerSet { timer, due };
    /// A timer expires.
    42 Kernel TimerFire { timer };
    /// A work item is queued.
    43 Kernel WorkQueue { driver, rva };
    /// A work item starts to run.
    44 Kernel WorkRun { driver, rva };
    /// It has returned.
    45 Kernel WorkEnd { driver, rva };
    /// An inter-processor call on all CPUs.
    46 Kernel Ipi { driver, rva };

    /// An IRP goes to a driver: its dispatch routine is called.
    48 Irp IrpCall { irp, device, driver, major, minor };
    /// The dispatch routine has returned.
    49 Irp IrpReturn { irp, device, status };
    /// A driver completes an IRP.
    50 Irp IrpComplete { irp, status };

    /// A request comes to a disk: `op` is the first byte of its command.
    64 Disk Request { request, target, op, lba, blocks, block_size };
    /// The request has ended; 0 is success.
    65 Disk RequestDone { request, status };
    /// The port driver gives the request to the miniport (HwBuildIo); `page` is its first data page.
    66 Disk SrbBuild { request, srb, page };
    /// HwStartIo is called.
    67 Disk SrbStart { request, srb };
    /// The miniport completes the SRB.
    68 Disk SrbComplete { request, srb, status };

    /// A hypercall; `command` is its first argument.
    80 Xen Hypercall { number, command };
    /// Its result.
    81 Xen HypercallDone { number, result };
    /// The guest sends on an event channel.
    82 Xen EventSend { port };
    /// Domain 0 sends to the guest.
    83 Xen EventNotify { port };
    /// A CPU is told of events: by its vector, or 256 + a line.
    84 Xen Upcall { on, vector };
    /// Domain 0 maps a grant.
    85 Xen GrantMap { reference, page, write };
    /// And lets go of it.
    86 Xen GrantUnmap { reference };
    /// The guest copies `bytes` between grants or pages of its own.
    87 Xen GrantCopy { from, to, bytes };
    /// A request of the guest to xenstored (`io/xs_wire.h`); `error` is 1 if it failed.
    88 Xen Store { operation, error } + path;

    /// A backend takes a request off a ring.
    96 Backend BackendTake { vdev, queue, id, operation, sector, segments };
    /// A backend answers.
    97 Backend BackendDone { vdev, queue, id, status };
    /// Something was made to fail.
    98 Backend Fault {} + what;

    /// A network adapter does something else: 0 halted, 1 initialising, 2 paused, 3 restarting, 4 running, 5 pausing.
    112 Net AdapterState { adapter, state };
    /// A list is given to the miniport to send; `bytes` are its first frame's.
    113 Net ListSend { adapter, list, bytes };
    /// The miniport completes it.
    114 Net ListSent { adapter, list, status };
    /// The miniport indicates a list.
    115 Net ListReceive { adapter, list, bytes };
    /// It goes back to the miniport.
    116 Net ListReturn { adapter, list };
    /// An OID request goes to the miniport: 0 asks, 1 asks for WMI, 2 sets, 3 does both.
    117 Net OidRequest { adapter, oid, kind };
    /// The miniport has answered it.
    118 Net OidAnswer { adapter, oid, status };
    /// The miniport indicates a status.
    119 Net Indication { adapter, code };
}
