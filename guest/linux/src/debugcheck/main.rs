//! `debugcheck`: debugs programs, and says whether that goes as it must.
//!
//! Several processes at once each trace a child: they step through it one instruction at a time,
//! and set hardware breakpoints and watchpoints. Then uprobes are put on a function that several
//! threads call. It runs on any arm64 Linux (for uprobes as root, with `tracefs` at
//! `/sys/kernel/tracing`); in a guest it is a witness of what the hypervisor makes of the registers
//! of self-hosted debugging.
//!
//! - `code`: what is debugged;
//! - `tracer`: debugging by `ptrace`;
//! - `regset`: the registers as `ptrace` has them;
//! - `probe`: debugging by uprobes.

#[cfg(target_arch = "aarch64")]
mod code;
#[cfg(target_arch = "aarch64")]
mod probe;
#[cfg(target_arch = "aarch64")]
mod regset;
#[cfg(target_arch = "aarch64")]
mod run;
#[cfg(target_arch = "aarch64")]
mod tracer;

#[cfg(target_arch = "aarch64")]
fn main() -> std::process::ExitCode {
    run::main()
}

#[cfg(not(target_arch = "aarch64"))]
fn main() {
    eprintln!("debugcheck debugs arm64 programs: run it in a guest, by --append test=debug");
}
