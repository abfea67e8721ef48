//! PSCI and SMCCC calls through the conduit that the device tree names.

use aarch64_rt::Stack;
pub use smccc::psci::{AffinityState, Error, Version};
use smccc::{
    Call, Hvc, Smc, arch,
    psci::{self, LowestAffinityLevel},
};
use spin::Once;

use crate::machine::Conduit;

static CONDUIT: Once<Conduit> = Once::new();

/// Sets how PSCI is called from now on; HVC until then.
pub fn set_conduit(conduit: Conduit) {
    CONDUIT.call_once(|| conduit);
}

/// The conduit in use.
pub fn conduit() -> Conduit {
    *CONDUIT.get().unwrap_or(&Conduit::Hvc)
}

/// A call by whichever instruction is the conduit.
struct ByConduit;

impl Call for ByConduit {
    fn call32(function: u32, arguments: [u32; 7]) -> [u32; 8] {
        match conduit() {
            Conduit::Hvc => Hvc::call32(function, arguments),
            Conduit::Smc => Smc::call32(function, arguments),
        }
    }

    fn call64(function: u32, arguments: [u64; 17]) -> [u64; 18] {
        match conduit() {
            Conduit::Hvc => Hvc::call64(function, arguments),
            Conduit::Smc => Smc::call64(function, arguments),
        }
    }
}

/// A call with two arguments; returns x0 to x17.
pub(crate) fn call64(function: u32, first: u64, second: u64) -> [u64; 18] {
    let mut arguments = [0; 17];
    (arguments[0], arguments[1]) = (first, second);
    ByConduit::call64(function, arguments)
}

/// PSCI_VERSION.
pub fn version() -> Result<Version, Error> {
    psci::version::<ByConduit>()
}

/// AFFINITY_INFO of the vCPU with this MPIDR.
pub fn affinity_info(mpidr: u64) -> Result<AffinityState, Error> {
    psci::affinity_info::<ByConduit>(mpidr, LowestAffinityLevel::All)
}

/// What SMCCC_ARCH_FEATURES says of `function`.
pub fn architecture_feature(function: u32) -> i32 {
    arch::features::<ByConduit>(function).map_or_else(i32::from, |answer| answer as i32)
}

/// The call `function` with 1 as its argument, as the result in w0.
pub fn architecture_call(function: u32) -> i32 {
    ByConduit::call32(function, [1, 0, 0, 0, 0, 0, 0])[0] as i32
}

/// CPU_ON with a raw entry point, for calls that are meant to be refused.
///
/// # Safety
///
/// If the call succeeds, the vCPU starts at IPA `entry` with the MMU off.
pub unsafe fn cpu_on(mpidr: u64, entry: u64) -> Result<(), Error> {
    psci::cpu_on::<ByConduit>(mpidr, entry, 0)
}

/// CPU_ON through `aarch64-rt`'s entry code: stage 1 and vectors as on this vCPU.
///
/// # Safety
///
/// `stack` is valid, mapped, and the new vCPU's alone for as long as it runs.
pub unsafe fn start_core<F: FnOnce() + Send + 'static, const N: usize>(
    mpidr: u64,
    stack: *mut Stack<N>,
    body: F,
) -> Result<(), Error> {
    // SAFETY: what the caller promises is what `aarch64-rt` demands.
    unsafe { aarch64_rt::start_core::<ByConduit, F, N>(mpidr, stack, body) }
}

/// CPU_OFF of the calling vCPU; panics if it comes back.
pub fn cpu_off() -> ! {
    let result = psci::cpu_off::<ByConduit>();
    panic!("CPU_OFF came back: {result:?}")
}

/// SYSTEM_OFF. If it comes back the vCPU spins; that it is called last leaves nothing else to do.
pub fn system_off() -> ! {
    let _ = psci::system_off::<ByConduit>();
    loop {
        core::hint::spin_loop();
    }
}

/// SYSTEM_RESET; panics if it comes back.
pub fn system_reset() -> ! {
    let result = psci::system_reset::<ByConduit>();
    panic!("SYSTEM_RESET came back: {result:?}")
}
