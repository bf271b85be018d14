//! The process of one case: a small machine with the breaker's device, from its start to its removal.

use std::path::{Path, PathBuf};
use std::process::exit;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use nt_host::cm::Value;
use nt_host::pnp;
use rig::boot;
use rig::hypervisor;
use rig::packages::Packages;
use rig::platform::{Linux, Settings, seeded};
use rig::wait;
use xen_model::Xen;
use xen_model::dom0::Dom0;
use xen_model::toolstack::GuestSpec;

use crate::posing;

/// The environment variable that names the case.
pub const CASE: &str = "RIG_BREACH_CASE";
/// How a process ends whose machine had a bug check.
pub const EXIT_BUG_CHECK: i32 = 7;

/// How long a case may take, in the machine's own time.
const PATIENCE: Duration = Duration::from_secs(300);
const PARAMETERS: &str =
    r"\Registry\Machine\System\CurrentControlSet\Services\rig-breaker\Parameters";

/// Where xtask puts the driver.
pub fn breaker() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/breaker")
}

/// Plays a case; what the verifier says goes to standard output.
pub fn play(case: &str) -> ! {
    let xen_config = xen_model::Config {
        witness: Some(hypervisor::witness()),
        ..xen_model::Config::default()
    };
    let settings = Settings {
        cpus: 2,
        ram_mib: 32,
        xen_frames: xen_config.xen_frames(),
        log: Box::new(|line| println!("{line}")),
        halted: Box::new(|_| exit(EXIT_BUG_CHECK)),
        shut_down: Box::new(|_| {}),
    };
    // Virtual time: whoever waits for what never comes waits for nothing.
    let linux = Linux::seeded(settings, 1).expect("a machine");
    let xen = Xen::new(linux.clone(), xen_config);
    linux.set_xen(&xen);
    let dom0 = Dom0::new(Arc::clone(&xen));
    dom0.build_guest(GuestSpec::default());
    let machine = linux.leak();
    let config = nt_host::Config {
        exports: boot::exports(),
        hypervisor: Some(hypervisor::of(&xen)),
        ..nt_host::Config::default()
    };
    nt_host::init(machine, config);
    let packages = Packages::read(&breaker()).expect("the breaker's package");
    boot::stage(&packages).expect("the breaker's INF");
    let symbols = packages.folder.join("rig-breaker.pdb");
    linux.symbols().add("rig-breaker.sys", &symbols);
    nt_host::cm::write(PARAMETERS, "Case", Value::sz(case));
    let world = seeded::world().expect("a seeded machine");
    machine.enter(world).expect("virtual CPUs");
    let functions = posing::prepare(case);
    pnp::add_root_device(r"Root\RigBreaker");
    pnp::start(functions);
    wait::until(PATIENCE, pnp::settled);
    posing::play(case);
    let mut findings = wait::receive(&tear_down(), PATIENCE).expect("a torn down machine");
    findings.extend(hypervisor::findings(&xen));
    posing::play_unloaded(case);
    for line in findings {
        println!("finding {line}");
    }
    exit(0);
}

fn tear_down() -> Receiver<Vec<String>> {
    let (sender, receiver) = channel();
    pnp::tear_down(move |leaks| {
        // The receiver waits, or has given up.
        let _ = sender.send(leaks.lines());
    });
    receiver
}
