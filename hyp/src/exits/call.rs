//! HVC and SMC from a guest.

use hyp::vm::power::StopReason;
use hyp::vm::psci::{self, Effect};

use stage2::OutOfFrames;

use super::{Frame, wait};

/// Does what the guest asks for in x0 to x3, and puts the answer into x0.
pub(super) fn call(frame: &mut Frame) {
    let vcpu = frame.vcpu;
    let vm = vcpu.vm();
    let arguments = [frame.x[0], frame.x[1], frame.x[2], frame.x[3]];
    let effect = psci::call(arguments, vm.power(), |ipa| vm.is_memory(ipa));
    frame.x[0] = match effect {
        Effect::Return(value) => value,
        Effect::Started(target) => {
            vm.wake(target);
            0
        }
        Effect::Release(range) => match vm.memory().release(range) {
            Ok(()) => 0,
            Err(OutOfFrames) => psci::DENIED,
        },
        Effect::Suspend => {
            wait::for_interrupt(vcpu);
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
