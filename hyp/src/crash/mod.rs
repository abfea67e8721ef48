//! The end: a panic or an exception of EL2 itself is reported, and the machine is switched off.
//!
//! One CPU reports, the first; others that fail meanwhile stop silently, and the console is taken
//! away from everyone (see `console::seize`), so the report stays in one piece. A CPU that fails
//! while it reports switches the machine off at once. Nothing here takes a lock or allocates.

mod backtrace;
mod syndrome;

use core::fmt::{self, Write};
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicUsize, Ordering};

use aarch64_cpu::registers::{ELR_EL2, ESR_EL2, FAR_EL2, HPFAR_EL2, Readable, SP, SPSR_EL2};
use arch::backtrace::Start;
use platform::psci;
use platform::uart::Console;
use spin::Once;

use crate::el2::mmu::mmu_is_on;
use crate::el2::stacks;
use crate::percpu::FatalFrame;
use crate::{board, console, percpu};
use syndrome::{Syndrome, is_abort};

/// No CPU has failed.
const NOBODY: usize = usize::MAX;

/// The CPU that reports, or [`NOBODY`].
static REPORTER: AtomicUsize = AtomicUsize::new(NOBODY);

/// The name of the thread that runs on this CPU.
static THREAD_NAME: Once<fn() -> &'static str> = Once::new();

/// Has reports name the thread that failed. Called once there are threads.
pub(crate) fn name_threads_by(name: fn() -> &'static str) {
    THREAD_NAME.call_once(|| name);
}

/// Switches the machine off.
fn power_off() -> ! {
    board::conduit().system_off()
}

/// Makes this CPU the one that reports; returns only if it is.
fn claim() {
    // While it is off locks must not be touched.
    if !mmu_is_on() {
        return;
    }
    let me = percpu::this().index();
    match REPORTER.compare_exchange(NOBODY, me, Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) => {}
        Err(reporter) if reporter == me => power_off(),
        Err(_) => psci::park(),
    }
}

/// Writes a report and switches the machine off.
fn finish(report: impl FnOnce(&mut Console) -> fmt::Result) -> ! {
    if let Some(mut console) = console::seize() {
        // The console's writer does not fail.
        let _ = report(&mut console);
        console.drain();
    }
    power_off()
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    claim();
    finish(|out| {
        headline(out, SP.get())?;
        match info.location() {
            Some(location) => writeln!(out, "{} ({location})", info.message())?,
            None => writeln!(out, "{}", info.message())?,
        }
        backtrace::print(out, backtrace::here())
    })
}

/// Reports an exception that EL2 took from itself. Entered by the vectors, on the emergency stack.
pub(crate) extern "C" fn report_exception(frame: &FatalFrame) -> ! {
    claim();
    let elr = ELR_EL2.get();
    finish(|out| {
        headline(out, frame.sp)?;
        cause(out, frame)?;
        print_registers(out, frame, elr)?;
        let [.., fp, lr] = frame.x;
        backtrace::print(
            out,
            Start {
                pc: Some(elr),
                lr,
                fp,
            },
        )
    })
}

/// The line's start, which scripts look for: who has failed.
fn headline(out: &mut Console, sp: u64) -> fmt::Result {
    write!(out, "\ntessera: PANIC on cpu{}", percpu::this().index())?;
    if let Some(owner) = stacks::owner(sp as usize) {
        let thread = THREAD_NAME.get().map_or("none", |name| name());
        write!(out, " ({owner}, thread {thread})")?;
    }
    out.write_str(": ")
}

/// What kind of exception it was, and the guard page it hit, if any.
fn cause(out: &mut Console, frame: &FatalFrame) -> fmt::Result {
    const KINDS: [&str; 4] = ["synchronous exception", "IRQ", "FIQ", "SError"];
    const ORIGINS: [&str; 4] = [
        "EL2 with SP_EL0",
        "EL2",
        "a guest in AArch64",
        "a guest in AArch32",
    ];
    let vector = frame.vector as usize % 16;
    let esr = ESR_EL2.get();
    if is_abort(esr)
        && let Some(owner) = stacks::overflowed(FAR_EL2.get() as usize)
    {
        writeln!(out, "stack overflow of {owner}")
    } else {
        writeln!(
            out,
            "unexpected {} from {}: {}",
            KINDS[vector % 4],
            ORIGINS[vector / 4],
            Syndrome(esr)
        )
    }
}

fn print_registers(out: &mut Console, frame: &FatalFrame, elr: u64) -> fmt::Result {
    writeln!(
        out,
        "  ESR {:#018x}  FAR {:#018x}  HPFAR {:#018x}",
        ESR_EL2.get(),
        FAR_EL2.get(),
        HPFAR_EL2.get()
    )?;
    writeln!(
        out,
        "  ELR {elr:#018x}  SPSR {:#018x}  SP {:#018x}",
        SPSR_EL2.get(),
        frame.sp
    )?;
    for (row, values) in frame.x.chunks(4).enumerate() {
        out.write_str(" ")?;
        for (column, value) in values.iter().enumerate() {
            write!(out, " x{:<2} {value:016x}", row * 4 + column)?;
        }
        out.write_str("\n")?;
    }
    Ok(())
}
