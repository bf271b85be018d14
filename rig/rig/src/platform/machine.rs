//! The machine as the model of Xen sees it.

use xen_model::{Fault, Machine, P2m, Upcall};

use super::Linux;

// SAFETY: the aliases of RAM and of Xen's frames are two mappings made once, page aligned, apart from each other, and
// never unmapped before the machine is dropped.
unsafe impl Machine for Linux {
    fn read(&self, va: u64, out: &mut [u8]) -> Result<(), Fault> {
        self.memory.read(va, out)
    }

    fn write(&self, va: u64, data: &[u8]) -> Result<(), Fault> {
        self.memory.write(va, data)
    }

    fn vcpus(&self) -> u32 {
        self.settings.cpus
    }

    fn ram_frames(&self) -> u64 {
        self.memory.ram_frames()
    }

    fn ram(&self, n: u64) -> *mut u8 {
        self.memory.ram(n)
    }

    fn xen_frames(&self) -> u64 {
        self.memory.xen_frames()
    }

    fn xen_frame(&self, i: u64) -> *mut u8 {
        self.memory.xen_frame(i)
    }

    fn set_p2m(&self, gfn: u64, to: P2m) -> bool {
        self.memory.set_p2m(gfn, to)
    }

    fn upcall(&self, vcpu: u32, how: Upcall) {
        match how {
            Upcall::Vector(vector) => nt_host::ke::interrupt::raise(vcpu, vector),
            Upcall::Gsi { gsi, level } => nt_host::ke::interrupt::set_gsi(gsi, level),
        }
    }

    fn tsc(&self) -> u64 {
        self.clock.tsc()
    }

    fn tsc_khz(&self) -> u64 {
        self.clock.tsc_khz()
    }

    fn now_ns(&self) -> u64 {
        self.clock.nanoseconds()
    }

    fn wall_ns(&self) -> u64 {
        self.clock.wall_nanoseconds()
    }

    fn relax(&self, vcpu: u32) {
        match (self.world, self.vcpus.get(vcpu as usize)) {
            (Some(world), _) => world.spin(false),
            (None, Some(vcpu)) => vcpu.rest(),
            (None, None) => {}
        }
    }

    fn shutdown(&self, vcpu: Option<u32>, reason: u32) {
        (self.settings.shut_down)(reason);
        // A CPU that asked does not run on.
        while vcpu.is_some() {
            match self.world {
                Some(world) => world.sleep(None),
                None => std::thread::park(),
            }
        }
    }
}
