//! Code that the guest writes itself: each function returns a word that names its page and
//! generation, so that a stale one is found out by its result.

use core::{arch::asm, sync::atomic::Ordering::Relaxed};

use guest::{
    areas::CODE_PAGES,
    random::Random,
    stamp::{Stamp, WORDS},
};

use crate::{
    plan::Plan,
    progress::{self, Activity},
    report,
};

/// Words of a function: four moves of 16 bits, a return, a NOP.
const FUNCTION_WORDS: usize = 3;
/// A function begins at a multiple of this many words, a line of 64 bytes.
const LINE_WORDS: usize = 8;
/// No cache line is shorter (CTR_EL0 counts them in words of 4 bytes, a power of two of them; all
/// CPUs that exist have at least 16 bytes).
const SHORTEST_LINE: u64 = 16;

/// One vCPU's functions, one in each of its pages for code.
pub(crate) struct Code {
    plan: &'static Plan,
    vcpu: usize,
    functions: [Function; CODE_PAGES],
}

/// Where in the page the function begins, and what it returns; 0 as long as there is none.
#[derive(Clone, Copy)]
struct Function {
    word: usize,
    generation: u64,
}

impl Code {
    /// No functions yet.
    pub(crate) const fn new(plan: &'static Plan, vcpu: usize) -> Self {
        let none = Function {
            word: 0,
            generation: 0,
        };
        Self {
            plan,
            vcpu,
            functions: [none; CODE_PAGES],
        }
    }

    /// Writes a new function somewhere in a random page and calls it.
    pub(crate) fn renew(&mut self, random: &mut Random) {
        let index = random.below(CODE_PAGES);
        let function = Function {
            word: random.below(WORDS / LINE_WORDS) * LINE_WORDS,
            generation: self.functions[index].generation + 1,
        };
        self.functions[index] = function;
        let page = self.plan.pool.page(self.number(index));
        let code = returning(self.result(index));
        for (place, word) in page.0[function.word..].iter().zip(code) {
            place.store(word, Relaxed);
        }
        make_visible(self.address(index));
        self.call(index);
    }

    /// Calls the function in a random page, if there is one.
    pub(crate) fn call_again(&self, random: &mut Random) {
        let index = random.below(CODE_PAGES);
        if self.functions[index].generation != 0 {
            self.call(index);
        }
    }

    fn call(&self, index: usize) {
        let address = self.address(index);
        progress::of(self.vcpu).at(address);
        // SAFETY: `renew` wrote a function of this type there and made it visible to fetches; the
        // page is this vCPU's alone.
        let function: extern "C" fn() -> u64 =
            unsafe { core::mem::transmute(address as *const ()) };
        report::compare(self.vcpu, address, self.result(index), function());
        progress::of(self.vcpu).count(Activity::Call);
    }

    fn number(&self, index: usize) -> usize {
        self.plan.areas.code.start + self.vcpu * CODE_PAGES + index
    }

    /// Where the function is: IPA and virtual address are the same.
    fn address(&self, index: usize) -> u64 {
        self.plan.pool.ipa(self.number(index)) + 8 * self.functions[index].word as u64
    }

    fn result(&self, index: usize) -> u64 {
        let function = self.functions[index];
        let stamp = Stamp {
            ipa: self.plan.pool.ipa(self.number(index)),
            generation: function.generation,
            writer: self.vcpu,
        };
        stamp.word(function.word)
    }
}

/// A64 code of `fn() -> u64` that returns `result` (MOVZ, MOVK, RET, NOP).
fn returning(result: u64) -> [u64; FUNCTION_WORDS] {
    const MOVZ_X0: u32 = 0xd280_0000;
    const MOVK_X0: u32 = 0xf280_0000;
    const RET: u32 = 0xd65f_03c0;
    const NOP: u32 = 0xd503_201f;
    let part = |n: u32| n << 21 | ((result >> (16 * n)) as u32 & 0xffff) << 5;
    let pair = |first: u32, second: u32| u64::from(second) << 32 | u64::from(first);
    [
        pair(MOVZ_X0 | part(0), MOVK_X0 | part(1)),
        pair(MOVK_X0 | part(2), MOVK_X0 | part(3)),
        pair(RET, NOP),
    ]
}

/// Makes the function at `address` visible to instruction fetch on every vCPU (Arm ARM,
/// "Synchronization and coherency issues between data and instruction accesses").
fn make_visible(address: u64) {
    let end = address + 8 * FUNCTION_WORDS as u64;
    for line in (address..end).step_by(SHORTEST_LINE as usize) {
        // SAFETY: cleaning a line of mapped memory changes no contents.
        unsafe { asm!("dc cvau, {}", in(reg) line, options(nostack, preserves_flags)) };
    }
    // SAFETY: a barrier.
    unsafe { asm!("dsb ish", options(nostack, preserves_flags)) };
    for line in (address..end).step_by(SHORTEST_LINE as usize) {
        // SAFETY: dropping a line of the instruction cache changes no contents.
        unsafe { asm!("ic ivau, {}", in(reg) line, options(nostack, preserves_flags)) };
    }
    // SAFETY: barriers.
    unsafe { asm!("dsb ish", "isb", options(nostack, preserves_flags)) };
}
