//! What brings a guest to EL2, and what is done about it.
//!
//! [`switch`] saves the registers and calls one of the handlers below on the vCPU's thread; they
//! return to let the guest go on. A hypercall is answered straight away. Everything after which the
//! guest may not simply go on, because its thread left the CPU or an interrupt brought news, ends
//! in [`check_entry`].
//!
//! Nothing a guest does is an error of the hypervisor: what has no meaning becomes an exception of
//! the guest's own.
//!
//! What an instruction or a syndrome means is decided by the crate [`arch`].

mod abort;
mod coprocessor;
pub(crate) mod hypercall;
mod inject;
mod instruction;
mod stage1_walk;
mod stuck;
mod switch;
mod system_register;
pub(crate) mod vectors;
mod wfx;

use aarch64_cpu::registers::{ELR_EL2, ESR_EL2, Readable, SPSR_EL2, Writeable};
use arch::pstate::{after_instruction, is_aarch32, meets_condition};
use arch::syndrome::{IL, class, class_of, condition};
use arch::system_error::SystemError;
use log::{Level, debug, log_enabled};

use crate::vcpu::{Exit, Frame, physical};
use crate::{sched, tracing};

/// A synchronous exception: the guest did something.
extern "C" fn synchronous(frame: &mut Frame) {
    let esr = ESR_EL2.get();
    match class_of(esr) {
        class::HVC => {
            frame.vcpu.counters.count(Exit::Call);
            hypercall::call(frame, esr);
            // A vCPU whose entries are traced is never ready without a look, so its calls are all
            // traced.
            if frame.vcpu.is_entry_ready() {
                return;
            }
            traced(class::HVC, esr);
        }
        class::DATA_ABORT => {
            traced(class::DATA_ABORT, esr);
            abort::data(frame, esr);
        }
        class => other(frame, esr, class),
    }
    check_entry(frame);
}

/// Everything that is neither a hypercall nor a data abort.
#[inline(never)]
fn other(frame: &mut Frame, esr: u64, class: u64) {
    traced(class, esr);
    let counters = &frame.vcpu.counters;
    match class {
        class::INSTRUCTION_ABORT => abort::stage2(frame, esr, true),
        class::SYSTEM => system_register::access(frame, esr),
        class::WAIT | class::COPROCESSOR_14 | class::COPROCESSOR_14_PAIR if is_skipped(esr) => {
            skip_instruction(esr);
        }
        class::COPROCESSOR_14 | class::COPROCESSOR_14_PAIR => coprocessor::access(frame, esr),
        class::WAIT => {
            counters.count(Exit::Wait);
            wfx::instruction(frame, esr);
        }
        class::SMC => {
            counters.count(Exit::Call);
            // Unlike HVC it is trapped before it is executed.
            skip_instruction(esr);
            hypercall::call(frame, esr);
        }
        _ => {
            counters.count(Exit::Injected);
            if log_enabled!(Level::Debug)
                && let Some(leave) = frame.vcpu.vm().may_log()
            {
                debug!(
                    "vm{}: exception class {class:#x}, ELR {:#x}{leave}",
                    frame.vcpu.vm().index(),
                    ELR_EL2.get()
                );
            }
            inject::undefined();
        }
    }
}

/// Whether the instruction is one of AArch32 that fails its condition: CPUs may trap it all the
/// same (Arm ARM, `ESR_EL2`, COND).
fn is_skipped(esr: u64) -> bool {
    let spsr = SPSR_EL2.get();
    is_aarch32(spsr) && !meets_condition(spsr, condition(esr))
}

/// Notes that a guest has left for this class of exceptions.
#[inline(always)]
fn traced(class: u64, esr: u64) {
    if tracing::wants_exits() {
        let exit = match class {
            class::HVC | class::SMC => trace::event::Exit::Call,
            class::DATA_ABORT | class::INSTRUCTION_ABORT => trace::event::Exit::Abort,
            class::SYSTEM | class::COPROCESSOR_14 | class::COPROCESSOR_14_PAIR => {
                trace::event::Exit::Register
            }
            class::WAIT => trace::event::Exit::Wait,
            _ => trace::event::Exit::Other,
        };
        tracing::left(exit, esr, ELR_EL2.get());
    }
}

/// A physical interrupt.
extern "C" fn interrupt(frame: &mut Frame) {
    frame.vcpu.counters.count(Exit::Interrupt);
    if tracing::wants_exits() {
        tracing::left(trace::event::Exit::Interrupt, 0, ELR_EL2.get());
    }
    physical::serve(Some(frame.vcpu));
    stuck::interrupted(frame.vcpu);
    sched::after_interrupt();
    // Also if the thread kept the CPU: the news may be that the VM is to stop.
    frame.vcpu.require_entry_check();
    check_entry(frame);
}

/// An asynchronous error: of the guest that it was taken from, since those of others were drained
/// before it ran.
extern "C" fn system_error(frame: &mut Frame) {
    frame.vcpu.meets(SystemError::taken(ESR_EL2.get()));
    check_entry(frame);
}

/// Makes sure that the guest may be entered: returns when it is loaded and its VM runs.
fn check_entry(frame: &mut Frame) {
    if !frame.vcpu.is_entry_ready() {
        look(frame);
    }
}

/// Looks at what has to be looked at before the guest is entered.
// Cold, so that the other way is the straight one.
#[cold]
#[inline(never)]
fn look(frame: &mut Frame) {
    if !frame.vcpu.recheck_timers() {
        frame.vcpu.vm().admit(frame);
    }
}

/// Lets the guest go on behind the instruction that was emulated; `esr` knows its length.
fn skip_instruction(esr: u64) {
    let length = if esr & IL != 0 { 4 } else { 2 };
    ELR_EL2.set(ELR_EL2.get().wrapping_add(length));
    SPSR_EL2.set(after_instruction(SPSR_EL2.get()));
}
