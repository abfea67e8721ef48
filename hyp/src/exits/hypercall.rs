//! HVC and SMC from a guest.

use core::sync::atomic::{AtomicBool, Ordering};

use arch::syndrome::immediate;
use arch::system_error::SystemError;
use memory::compaction::requests;
use psci::calls::{self, Effect};
use psci::power::StopReason;

use super::wfx;
use crate::cpu::speculation;
use crate::el2::serror;
use crate::vcpu::{Frame, Vcpu};

/// Does what the guest asks for in x0 to x3, and puts the answer into x0. With an immediate other
/// than zero in the instruction it would be a call by a convention that is not ours (DEN 0028,
/// 2.9).
pub(super) fn call(frame: &mut Frame, esr: u64) {
    if immediate(esr) != 0 {
        frame.x[0] = calls::NOT_SUPPORTED;
        return;
    }
    let vcpu = frame.vcpu;
    let vm = vcpu.vm();
    let arguments = [frame.x[0], frame.x[1], frame.x[2], frame.x[3]];
    let effect = calls::call(
        arguments,
        vm.power(),
        || *speculation::answers(),
        |ipa| vm.is_memory(ipa),
    );
    frame.x[0] = match effect {
        Effect::Return(value) => value,
        Effect::Started(target) => {
            vm.wake(target);
            0
        }
        Effect::Release(range) => match vm.memory().release(range) {
            Ok(()) => 0,
            Err(_) => calls::DENIED,
        },
        Effect::SystemError(syndrome) => plant_error(vcpu, syndrome),
        Effect::Tables => tables(frame, arguments),
        Effect::Suspend => {
            wfx::for_interrupt(vcpu, None);
            0
        }
        Effect::CpuOff => {
            vm.switch_off(frame);
            return;
        }
        Effect::SystemOff => return vm.stop(vcpu, StopReason::Off),
        Effect::SystemReset => return vm.stop(vcpu, StopReason::Reset),
    };
}

/// Has the VM's tables worked on: returns what goes into x0, and puts the rest where it belongs.
#[inline(never)]
fn tables(frame: &mut Frame, arguments: [u64; 4]) -> u64 {
    let memory = frame.vcpu.vm().memory();
    let [_, x1, x2, x3, x4, x5, x6, x7, x8, ..] = &mut frame.x;
    let mut values = [*x1, *x2, *x3, *x4, *x5, *x6, *x7, *x8];
    let status = requests::answer(memory, arguments, &mut values);
    [*x1, *x2, *x3, *x4, *x5, *x6, *x7, *x8] = values;
    status
}

/// Whether guests may have errors found.
static ERROR_CALLS: AtomicBool = AtomicBool::new(false);

/// Lets guests have errors found ([`calls::SYSTEM_ERROR`]). Before there are any.
pub(crate) fn allow_error_calls() {
    ERROR_CALLS.store(true, Ordering::Relaxed);
}

/// Has an error found that `vcpu` has caused.
#[inline(never)]
fn plant_error(vcpu: &Vcpu, syndrome: u64) -> u64 {
    if !ERROR_CALLS.load(Ordering::Relaxed) {
        return calls::NOT_SUPPORTED;
    }
    if let Some(error) = serror::plant(SystemError::taken(syndrome)) {
        vcpu.meets(error);
    }
    0
}
