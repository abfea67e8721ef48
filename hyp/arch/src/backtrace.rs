//! Who called whom: follows the chain of frame records on a stack.
//!
//! The procedure call standard (Arm IHI 0055, "The Frame Pointer") has x29 point at a frame record:
//! the caller's x29, and behind it the return address. The stack may be damaged when this is
//! needed, so every record must lie in the stack and above the one before it, and every address in
//! the code: the first that does not ends the trace.

use core::iter;
use core::ops::Range;

/// Bytes of a frame record.
const RECORD: u64 = 16;
/// Bytes of an instruction, by which a return address lies behind the call.
const INSTRUCTION: u64 = 4;

/// Where a trace starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// The instruction that failed; `None` to start with the caller of the function that has `fp`.
    pub pc: Option<u64>,
    /// The link register. It counts only if `pc` is not in the code: then a jump to nowhere failed,
    /// and this says from where.
    pub lr: u64,
    /// The frame pointer.
    pub fp: u64,
}

/// The instructions that were being executed, innermost first: the one that failed, then calls.
///
/// `text` is where the code lies, and `stack` the memory that `start.fp` points into. `read`
/// returns the two words of the frame record at an address, which is a multiple of 8 and lies in
/// `stack`.
pub fn trace(
    start: Start,
    text: Range<u64>,
    stack: Range<u64>,
    mut read: impl FnMut(u64) -> [u64; 2],
) -> impl Iterator<Item = u64> {
    let failed = start.pc.map(|pc| {
        if text.contains(&pc) {
            pc
        } else {
            start.lr.wrapping_sub(INSTRUCTION)
        }
    });
    let mut next = start.fp;
    let calls = iter::from_fn(move || {
        let record = next;
        let inside = stack.contains(&record) && stack.end - record >= RECORD;
        if !inside || !record.is_multiple_of(8) {
            return None;
        }
        let [caller, return_address] = read(record);
        // A record that does not lie higher is none; zero ends the chain of a sound stack.
        next = if caller > record { caller } else { 0 };
        text.contains(&return_address)
            .then(|| return_address - INSTRUCTION)
    });
    failed.into_iter().chain(calls.fuse())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: Range<u64> = 0x1000..0x2000;
    const STACK: Range<u64> = 0x8000..0x8100;

    /// Traces a stack that has `records` (address, caller's x29, return address) and nothing else.
    fn calls(start: Start, records: &[(u64, u64, u64)]) -> Vec<u64> {
        let read = |address| {
            records
                .iter()
                .find(|record| record.0 == address)
                .map_or([0, 0], |record| [record.1, record.2])
        };
        trace(start, TEXT, STACK, read).collect()
    }

    fn from(fp: u64) -> Start {
        Start {
            pc: None,
            lr: 0,
            fp,
        }
    }

    #[test]
    fn a_sound_stack_is_followed_to_its_end() {
        let records = [(0x8010, 0x8040, 0x1104), (0x8040, 0, 0x1008)];
        assert_eq!(calls(from(0x8010), &records), [0x1100, 0x1004]);
    }

    #[test]
    fn what_failed_comes_first() {
        let start = Start {
            pc: Some(0x1234),
            ..from(0x8010)
        };
        assert_eq!(calls(start, &[(0x8010, 0, 0x1104)]), [0x1234, 0x1100]);
    }

    #[test]
    fn a_jump_to_nowhere_is_told_by_the_link_register() {
        let start = Start {
            pc: Some(0xdead_0000),
            lr: 0x1304,
            fp: 0,
        };
        assert_eq!(calls(start, &[]), [0x1300]);
    }

    #[test]
    fn a_loop_ends() {
        let records = [(0x8010, 0x8040, 0x1104), (0x8040, 0x8010, 0x1008)];
        assert_eq!(calls(from(0x8010), &records), [0x1100, 0x1004]);
    }

    #[test]
    fn nothing_outside_the_stack_is_read() {
        for fp in [0, 0x7ff8, 0x80f8, 0x8100, 0x8011, u64::MAX, u64::MAX - 15] {
            let read = |address| panic!("read {address:#x}");
            assert_eq!(trace(from(fp), TEXT, STACK, read).count(), 0, "{fp:#x}");
        }
    }

    #[test]
    fn a_return_address_outside_the_code_ends_it() {
        let records = [(0x8010, 0x8040, 0x3000), (0x8040, 0, 0x1008)];
        assert_eq!(calls(from(0x8010), &records), []);
    }
}
