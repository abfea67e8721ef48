//! The calls a guest can make, by HVC or SMC: PSCI, SMCCC, and some of the hypervisor's own.
//!
//! Arm DEN 0022 (PSCI 1.1), DEN 0028 (SMCCC 1.1), and DEN 0070 for the workarounds. The
//! hypervisor's own, in the range of vendors' hypervisor services: [`RELEASE_MEMORY`], and those of
//! [`table_calls`]. Decides what a call means; the image, which runs the vCPU, carries it out. Any
//! other call, well formed or not, is answered with NOT_SUPPORTED.

use crate::power::{Entry, Power};
use crate::range::bounded_range;
use crate::table_calls;
use arm_psci::{
    AffinityInfo, EntryPoint, ErrorCode, Function, FunctionId, MigrateInfoType, Mpidr, PsciFeature,
};
use speculation::Answers;
use spin::Mutex;
use stage2::IpaRange;

/// `PSCI_VERSION`.
const PSCI_VERSION: u32 = FunctionId::PsciVersion as u32;
/// PSCI 1.1, as `PSCI_VERSION` returns it.
const PSCI_1_1: u64 = 0x1_0001;
/// `SMCCC_VERSION`.
const SMCCC_VERSION: u32 = 0x8000_0000;
/// `SMCCC_ARCH_FEATURES`.
const SMCCC_ARCH_FEATURES: u32 = 0x8000_0001;
/// Where the architecture's calls of 32 bits begin, and where they end.
const ARCHITECTURE: u32 = 0x8000_0000;
const ARCHITECTURE_LAST: u32 = 0x8000_ffff;
/// SMCCC 1.1, as `SMCCC_VERSION` returns it.
const SMCCC_1_1: u64 = 0x1_0001;
/// Gives memory back that the guest has no use for: x1 is its IPA, x2 its size, both in whole pages
/// and at most [`MAX_SIZE`](crate::range::MAX_SIZE). What is touched again reads as zeros. Returns
/// 0, or a negative error of PSCI's: DENIED if there is no memory to do it, or what is written to
/// the machine's memory is logged.
pub const RELEASE_MEMORY: u32 = 0xc600_0001;
/// Makes the hypervisor find an asynchronous error that the caller has caused, with the syndrome x1
/// (the low 25 bits of `ESR_EL2`), when it next looks for one: for tests, and only with the boot
/// argument `error-calls`.
pub const SYSTEM_ERROR: u32 = 0xc600_0002;
/// What a call returns that cannot be done for want of memory (PSCI's DENIED).
pub const DENIED: u64 = -3_i64 as u64;
/// What a call returns whose arguments make no sense (PSCI's INVALID_PARAMETERS).
pub const INVALID_PARAMETERS: u64 = -2_i64 as u64;
/// What SMCCC returns for an unknown function.
pub const NOT_SUPPORTED: u64 = -1_i64 as u64;

/// What has to be done for a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing more: the caller goes on with this in x0.
    Return(u64),
    /// The caller goes on with zero in x0, and the thread of this vCPU has to be woken.
    Started(usize),
    /// The caller goes on with zero in x0, after a wait as for WFI.
    Suspend,
    /// This memory is to be given back; the caller goes on with the result in x0.
    Release(IpaRange),
    /// An error with this syndrome is to be found, if guests may ask for that; the caller goes on
    /// with zero in x0.
    SystemError(u64),
    /// The machine's tables are to be worked on, if it may ask for that: see [`table_calls`].
    Tables,
    /// The caller is to be switched off.
    CpuOff,
    /// The virtual machine is to be switched off.
    SystemOff,
    /// The virtual machine is to be restarted.
    SystemReset,
}

/// Decides a call with the guest's x0 to x3.
///
/// `power` are the vCPUs of the calling machine; `workarounds` says what guests are told of those
/// against attacks by speculation; `is_memory` says whether a vCPU could fetch its first
/// instruction from an IPA.
pub fn call(
    arguments: [u64; 4],
    power: &Mutex<Power>,
    workarounds: impl Fn() -> Answers,
    is_memory: impl Fn(u64) -> bool,
) -> Effect {
    match arguments[0] as u32 {
        // Asked often, as the cheapest call there is; so it is not taken apart first.
        PSCI_VERSION => Effect::Return(PSCI_1_1),
        function @ ARCHITECTURE..=ARCHITECTURE_LAST => {
            architecture(function, arguments[1] as u32, workarounds)
        }
        RELEASE_MEMORY => release(arguments[1], arguments[2]),
        SYSTEM_ERROR => Effect::SystemError(arguments[1]),
        table_calls::FIRST..=table_calls::LAST => Effect::Tables,
        _ => decode(arguments, power, is_memory),
    }
}

#[inline(never)]
fn decode(arguments: [u64; 4], power: &Mutex<Power>, is_memory: impl Fn(u64) -> bool) -> Effect {
    // First of all: of a call that is not there the arguments cannot be wrong.
    if !FunctionId::try_from(arguments[0] as u32).is_ok_and(is_there) {
        return failure(ErrorCode::NotSupported);
    }
    match Function::try_from(&arguments) {
        Ok(function) => decide(function, power, is_memory),
        Err(error) => failure(error.into()),
    }
}

fn release(ipa: u64, size: u64) -> Effect {
    match bounded_range(ipa, size) {
        Some(range) => Effect::Release(range),
        None => failure(ErrorCode::InvalidParameters),
    }
}

/// A call of the architecture's. Kernels make the workarounds often, some with each exception from
/// a program.
// Not inline: others would save registers for it.
#[inline(never)]
fn architecture(function: u32, feature: u32, workarounds: impl Fn() -> Answers) -> Effect {
    match (function, feature) {
        (SMCCC_VERSION, _) => Effect::Return(SMCCC_1_1),
        (SMCCC_ARCH_FEATURES, SMCCC_VERSION | SMCCC_ARCH_FEATURES) => Effect::Return(0),
        (SMCCC_ARCH_FEATURES, _) => answer(workarounds().features(feature)),
        _ => answer(workarounds().call(function)),
    }
}

/// The answer to a question that there may be no answer to.
fn answer(known: Option<i32>) -> Effect {
    Effect::Return(known.map_or(NOT_SUPPORTED, |answer| i64::from(answer) as u64))
}

fn decide(function: Function, power: &Mutex<Power>, is_memory: impl Fn(u64) -> bool) -> Effect {
    match function {
        Function::Features { psci_func_id } => features(psci_func_id),
        Function::CpuOn { target_cpu, entry } => cpu_on(target_cpu, entry, power, is_memory),
        Function::CpuOff => Effect::CpuOff,
        // A power-down state may be entered as a standby state (DEN 0022, CPU_SUSPEND).
        Function::CpuSuspend { .. } => Effect::Suspend,
        Function::AffinityInfo {
            mpidr,
            lowest_affinity_level,
        } => affinity_info(mpidr, lowest_affinity_level, power),
        Function::MigrateInfoType => {
            Effect::Return(u32::from(MigrateInfoType::MigrationNotRequired).into())
        }
        Function::SystemOff => Effect::SystemOff,
        Function::SystemReset => Effect::SystemReset,
        _ => failure(ErrorCode::NotSupported),
    }
}

fn features(feature: PsciFeature) -> Effect {
    match feature {
        PsciFeature::PsciFunction(function) if !is_there(function) => {
            failure(ErrorCode::NotSupported)
        }
        PsciFeature::SmcccVersion | PsciFeature::PsciFunction(_) => Effect::Return(0),
    }
}

/// Whether there is this function of PSCI.
fn is_there(function: FunctionId) -> bool {
    matches!(
        function,
        FunctionId::PsciVersion
            | FunctionId::PsciFeatures
            | FunctionId::CpuOn32
            | FunctionId::CpuOn64
            | FunctionId::CpuOff
            | FunctionId::CpuSuspend32
            | FunctionId::CpuSuspend64
            | FunctionId::AffinityInfo32
            | FunctionId::AffinityInfo64
            | FunctionId::MigrateInfoType
            | FunctionId::SystemOff
            | FunctionId::SystemReset
    )
}

fn cpu_on(
    target: Mpidr,
    entry: EntryPoint,
    power: &Mutex<Power>,
    is_memory: impl Fn(u64) -> bool,
) -> Effect {
    let entry = Entry {
        address: entry.entry_point_address(),
        context: entry.context_id(),
    };
    let is_valid = entry.address.is_multiple_of(4) && is_memory(entry.address);
    let target = vcpu_index(target);
    let result = power.lock().switch_on(target, entry, is_valid);
    result.map_or_else(failure, |()| Effect::Started(target))
}

fn affinity_info(target: Mpidr, level: u32, power: &Mutex<Power>) -> Effect {
    let info = power.lock().affinity_info(vcpu_index(target), level);
    info.map_or_else(failure, |info: AffinityInfo| {
        Effect::Return(u32::from(info).into())
    })
}

/// The index of the vCPU with these affinities; out of range if Aff1 to Aff3 are not zero.
fn vcpu_index(mpidr: Mpidr) -> usize {
    u64::from(mpidr) as usize
}

/// Error codes are signed 32-bit values, sign-extended in x0.
fn failure(error: ErrorCode) -> Effect {
    Effect::Return(i64::from(i32::from(error)) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::range::MAX_SIZE;
    use stage2::Ipa;

    fn guest(vcpus: usize) -> Mutex<Power> {
        let mut power = Power::new(vcpus);
        power.boot(Entry {
            address: 0x4000_0000,
            context: 0,
        });
        assert!(power.take_entry(0).is_some());
        Mutex::new(power)
    }

    fn is_memory(ipa: u64) -> bool {
        (0x4000_0000..0x4800_0000).contains(&ipa)
    }

    /// What is told on a CPU that needs the firmware's help and has it.
    fn workarounds() -> Answers {
        use speculation::{Attacks, Means, Status};
        let by_firmware = Status::Mitigated(Means::Firmware);
        Attacks {
            branch_targets: by_firmware,
            branch_history: by_firmware,
            store_bypass: by_firmware,
            privileged_loads: Status::Unaffected,
        }
        .answers(false)
    }

    fn returned(arguments: [u64; 4], power: &Mutex<Power>) -> i64 {
        match call(arguments, power, workarounds, is_memory) {
            Effect::Return(value) => value as i64,
            effect => panic!("{effect:?} is not a return"),
        }
    }

    #[test]
    fn versions_and_features() {
        let power = guest(1);
        assert_eq!(returned([0x8400_0000, 0, 0, 0], &power), 0x1_0001);
        assert_eq!(returned([0x8000_0000, 0, 0, 0], &power), 0x1_0001);
        assert_eq!(returned([0x8000_0001, 0x8000_0000, 0, 0], &power), 0);
        assert_eq!(returned([0x8000_0001, 0x8000_0002, 0, 0], &power), -1);
        assert_eq!(returned([0x8400_0006, 0, 0, 0], &power), 2);
        for supported in [0x8000_0000, 0x8400_0008, 0xc400_0003, 0x8400_000a] {
            assert_eq!(returned([0x8400_000a, supported, 0, 0], &power), 0);
        }
        for unknown in [0x8400_0013, 0x1234_5678, 0xc400_0000] {
            assert_eq!(returned([0x8400_000a, unknown, 0, 0], &power), -1);
        }
    }

    #[test]
    fn workarounds_are_offered_and_can_be_called() {
        let power = guest(1);
        let offered = |function| returned([0x8000_0001, function, 0, 0], &power);
        assert_eq!(
            [0x8000_8000, 0x8000_7fff, 0x8000_3fff].map(offered),
            [0, -2, 0]
        );
        let called = |function| returned([function, 1, 0, 0], &power);
        assert_eq!(
            [0x8000_8000, 0x8000_7fff, 0x8000_3fff].map(called),
            [0, 0, 0]
        );
        // SMCCC_ARCH_SOC_ID is neither.
        assert_eq!((offered(0x8000_0002), called(0x8000_0002)), (-1, -1));
        // Those of 64 bits are not there.
        assert_eq!((offered(0xc000_8000), called(0xc000_8000)), (-1, -1));
    }

    #[test]
    fn features_has_what_is_answered_and_nothing_else() {
        const NOT_SUPPORTED: Effect = Effect::Return(super::NOT_SUPPORTED);
        for function in (0x8400_0000..0x8400_0020).chain(0xc400_0000..0xc400_0020) {
            let power = guest(2);
            // What PSCI_FEATURES knows, and all others may call wrong.
            let argument = PSCI_VERSION.into();
            let answer = call([function, argument, 0, 0], &power, workarounds, is_memory);
            let is_there = returned([0x8400_000a, function, 0, 0], &power) == 0;
            assert_eq!(is_there, answer != NOT_SUPPORTED, "{function:#x}");
        }
    }

    #[test]
    fn memory_is_released_in_whole_pages_and_bounded_pieces() {
        let power = guest(1);
        let release = |ipa, size| {
            call(
                [RELEASE_MEMORY.into(), ipa, size, 0],
                &power,
                workarounds,
                is_memory,
            )
        };
        let range = IpaRange::new(Ipa::new(0x4010_0000), Ipa::new(0x4010_3000)).unwrap();
        assert_eq!(release(0x4010_0000, 0x3000), Effect::Release(range));
        for (ipa, size) in [
            (0x4010_0000, 0),
            (0x4010_0001, 4096),
            (0x4010_0000, 100),
            (0, MAX_SIZE + 4096),
        ] {
            assert_eq!(release(ipa, size), Effect::Return(-2_i64 as u64));
        }
        assert_eq!(
            release(u64::MAX - 4095, 8192),
            Effect::Return(-2_i64 as u64)
        );
    }

    #[test]
    fn table_calls_are_left_to_whoever_knows_whether_they_are_allowed() {
        let power = guest(1);
        for function in table_calls::FIRST..=table_calls::LAST {
            let effect = call([function.into(), 1, 2, 3], &power, workarounds, is_memory);
            assert_eq!(effect, Effect::Tables);
        }
        let next = u64::from(table_calls::LAST) + 1;
        assert_eq!(returned([next, 1, 2, 3], &power), -1);
    }

    #[test]
    fn unknown_functions_are_not_supported() {
        let power = guest(1);
        for function in [0, 1, 0x8400_001f, 0xc400_0008, 0x8600_0000, 0xffff_ffff] {
            assert_eq!(returned([function, 1, 2, 3], &power), -1, "{function:#x}");
        }
    }

    #[test]
    fn cpu_on_and_all_its_errors() {
        let power = guest(2);
        let on = |target, entry| {
            call(
                [0xc400_0003, target, entry, 9],
                &power,
                workarounds,
                is_memory,
            )
        };
        let failed = |code: i64| Effect::Return(code as u64);
        assert_eq!(on(0, 0x4000_0000), failed(-4));
        assert_eq!(on(2, 0x4000_0000), failed(-2));
        assert_eq!(on(0x100, 0x4000_0000), failed(-2));
        assert_eq!(on(0x1_0000_0000, 0x4000_0000), failed(-2));
        assert_eq!(on(1 << 31, 0x4000_0000), failed(-2));
        assert_eq!(on(1, 0x900_0000), failed(-9));
        assert_eq!(on(1, 0x4000_0002), failed(-9));
        assert_eq!(on(1, 0x4000_1000), Effect::Started(1));
        assert_eq!(on(1, 0x4000_1000), failed(-5));
        assert_eq!(returned([0xc400_0004, 1, 0, 0], &power), 2);
        let entry = power.lock().take_entry(1);
        assert_eq!(
            entry,
            Some(Entry {
                address: 0x4000_1000,
                context: 9
            })
        );
        assert_eq!(on(1, 0x4000_1000), failed(-4));
        assert_eq!(returned([0xc400_0004, 1, 0, 0], &power), 0);
        assert_eq!(returned([0x8400_0004, 5, 0, 0], &power), -2);
        assert_eq!(returned([0xc400_0004, 0, 9, 0], &power), -2);
    }

    #[test]
    fn affinity_info_is_of_the_level_that_was_asked_for() {
        let power = guest(2);
        let info = |target, level| returned([0xc400_0004, target, level, 0], &power);
        assert_eq!([info(0, 0), info(1, 0)], [0, 1]);
        for level in 1..=3 {
            assert_eq!(info(1, level), 0, "one of them is on");
        }
        assert_eq!(info(0x100, 1), -2);
        assert_eq!(info(0x100, 2), 0);
    }

    #[test]
    fn a_call_of_32_bits_has_arguments_of_32_bits() {
        const HIGH: u64 = 0xdead_beef_0000_0000;
        let power = guest(2);
        let on = [HIGH | 0x8400_0003, HIGH | 1, HIGH | 0x4000_1000, HIGH | 9];
        assert_eq!(call(on, &power, workarounds, is_memory), Effect::Started(1));
        let entry = power.lock().take_entry(1);
        assert_eq!(
            entry,
            Some(Entry {
                address: 0x4000_1000,
                context: 9
            })
        );
        assert_eq!(returned([0x8400_0004, HIGH | 1, HIGH, 0], &power), 0);
        assert_eq!(returned([0x8400_000a, HIGH | 0x8400_0002, 0, 0], &power), 0);
    }

    #[test]
    fn a_suspended_vcpu_waits_if_the_state_is_one() {
        let power = guest(1);
        for function in [0x8400_0001, 0xc400_0001] {
            for state in [0, 0x1_0000, 0xdead_0000_0000_0000] {
                assert_eq!(
                    call(
                        [function, state, 0x4000_0000, 0],
                        &power,
                        workarounds,
                        is_memory
                    ),
                    Effect::Suspend
                );
            }
            assert_eq!(returned([function, 1 << 31, 0, 0], &power), -2);
        }
    }

    #[test]
    fn the_upper_half_of_the_function_is_ignored() {
        let power = guest(1);
        assert_eq!(
            call(
                [0xffff_ffff_8400_0008, 0, 0, 0],
                &power,
                workarounds,
                is_memory
            ),
            Effect::SystemOff
        );
    }
}
