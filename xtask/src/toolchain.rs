//! The compiler and linker, as `./x` found them.
//!
//! Debian's compiler brings the source of its standard library, so `core` and `alloc` are built for the Windows target
//! together with the driver. rustup's brings them built. Both link with LLVM's lld.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

/// The target of every driver.
pub(crate) const TARGET: &str = "x86_64-pc-windows-msvc";

/// The target of the kernel that runs the drivers on a real Xen.
pub(crate) const KERNEL_TARGET: &str = "x86_64-unknown-none";

/// Debian's copy of the standard library's source.
const DEBIAN_SOURCE: &str = "/usr/lib/rustlib/src/rust/library";

/// Where the compiler comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Toolchain {
    /// Debian's packages: `rustc-web`, `cargo-web`, `rust-web-src`.
    Debian,
    /// rustup with its own Windows target.
    Rustup,
}

/// The project's top folder.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap_or(Path::new("."))
}

impl Toolchain {
    /// What `./x` chose, or what is here when it was not the one to start this.
    pub(crate) fn current() -> Self {
        match env::var("WINPV_TOOLCHAIN").as_deref() {
            Ok("rustup") => Self::Rustup,
            Ok("debian") => Self::Debian,
            _ if Path::new(DEBIAN_SOURCE).exists() => Self::Debian,
            _ => Self::Rustup,
        }
    }

    /// `cargo SUBCOMMAND` for the host.
    pub(crate) fn cargo(self, subcommand: &str) -> Command {
        let mut command = match self {
            Self::Debian => {
                let mut command = Command::new("/usr/bin/cargo");
                command
                    .env("RUSTC", "/usr/bin/rustc")
                    .env_remove("RUSTUP_TOOLCHAIN");
                // Cargo looks its own subcommands (fmt, clippy) up on the path.
                let path = env::var("PATH").unwrap_or_default();
                command.env("PATH", format!("/usr/bin:{path}"));
                command
            }
            Self::Rustup => Command::new("cargo"),
        };
        command
            .arg(subcommand)
            .current_dir(root())
            .env("CARGO_TERM_COLOR", "never");
        command
    }

    /// `cargo SUBCOMMAND` for the drivers' target, the same on every machine: no flags from outside.
    pub(crate) fn cargo_for_windows(self, subcommand: &str) -> Command {
        let mut command = self.cargo(subcommand);
        for outside in [
            "RUSTFLAGS",
            "CARGO_ENCODED_RUSTFLAGS",
            "CARGO_INCREMENTAL",
            "CARGO_BUILD_RUSTFLAGS",
        ] {
            command.env_remove(outside);
        }
        command.args(["--target", TARGET]);
        if self == Self::Debian {
            command.arg("-Zbuild-std=core,compiler_builtins,alloc");
        }
        let (linker, flavor) = self.linker();
        let flags = ["-Ccontrol-flow-guard=yes".to_owned()]
            .into_iter()
            .chain(flavor)
            .chain(self.remapped_paths());
        command
            .env("CARGO_TARGET_X86_64_PC_WINDOWS_MSVC_LINKER", linker)
            .env(
                "CARGO_TARGET_X86_64_PC_WINDOWS_MSVC_RUSTFLAGS",
                flags.collect::<Vec<_>>().join(" "),
            );
        command
    }

    /// `cargo SUBCOMMAND` for the kernel of rig/xen-guest. The flags it needs are in .cargo/config.toml.
    pub(crate) fn cargo_for_kernel(self, subcommand: &str) -> Command {
        let mut command = self.cargo(subcommand);
        for outside in [
            "RUSTFLAGS",
            "CARGO_ENCODED_RUSTFLAGS",
            "CARGO_INCREMENTAL",
            "CARGO_BUILD_RUSTFLAGS",
        ] {
            command.env_remove(outside);
        }
        command.args(["--target", KERNEL_TARGET, "--profile", "kernel"]);
        command.args(["--package", "xen-guest", "--features", "kernel"]);
        if self == Self::Debian {
            command.args([
                "-Zbuild-std=core,compiler_builtins,alloc",
                "-Zbuild-std-features=compiler-builtins-mem",
            ]);
        }
        let linker = if self == Self::Debian {
            "ld.lld-22"
        } else {
            "rust-lld"
        };
        command.env("CARGO_TARGET_X86_64_UNKNOWN_NONE_LINKER", linker);
        command
    }

    fn linker(self) -> (&'static str, Option<String>) {
        if which("lld-link-22") || self == Self::Debian {
            ("lld-link-22", None)
        } else {
            ("rust-lld", Some("-Clinker-flavor=lld-link".to_owned()))
        }
    }

    /// No path of this machine enters an image: sources are named from /winpv, /cargo and /rust.
    fn remapped_paths(self) -> Vec<String> {
        let cargo_home = env::var_os("CARGO_HOME")
            .map(PathBuf::from)
            .unwrap_or_else(|| {
                PathBuf::from(env::var_os("HOME").unwrap_or_default()).join(".cargo")
            });
        let mut pairs = vec![
            (root().to_owned(), "/winpv"),
            (cargo_home.join("registry/src"), "/cargo"),
        ];
        if self == Self::Debian {
            let source = Path::new(DEBIAN_SOURCE)
                .parent()
                .unwrap_or(Path::new(DEBIAN_SOURCE));
            pairs.push((source.to_owned(), "/rust"));
            pairs.extend(source.canonicalize().map(|real| (real, "/rust")));
        }
        pairs
            .into_iter()
            .map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display()))
            .collect()
    }
}

/// Whether a program of this name is on the path.
pub(crate) fn which(program: &str) -> bool {
    env::var_os("PATH")
        .is_some_and(|path| env::split_paths(&path).any(|folder| folder.join(program).is_file()))
}
