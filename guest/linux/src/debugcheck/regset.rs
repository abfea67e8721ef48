//! Hardware breakpoints and watchpoints as `ptrace` has them (`struct user_hwdebug_state` of
//! Linux's `asm/ptrace.h`).

use std::io;

use anyhow::{Context, Result};
use nix::libc;
use nix::unistd::Pid;

/// Which set of registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Kind {
    /// `NT_ARM_HW_BREAK`.
    Breakpoints = 0x402,
    /// `NT_ARM_HW_WATCH`.
    Watchpoints = 0x403,
}

/// A control word: enabled, for user space; an instruction, or stores to eight bytes.
const USER: u32 = 0b10 << 1 | 1;
const EXECUTE: u32 = 0xf << 5;
const STORE: u32 = 0xff << 5 | 0b10 << 3;

const SLOTS: usize = 16;

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Slot {
    address: u64,
    control: u32,
    padding: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct State {
    /// The number of slots in the lowest byte.
    information: u32,
    padding: u32,
    slots: [Slot; SLOTS],
}

impl Kind {
    /// How many there are.
    pub(crate) fn count(self, pid: Pid) -> Result<usize> {
        let mut state = State::default();
        self.exchange(libc::PTRACE_GETREGSET, pid, &mut state, SLOTS)?;
        Ok((state.information & 0xff) as usize)
    }

    /// Has slot `slot` alone be at `address`.
    pub(crate) fn set(self, pid: Pid, slot: usize, address: u64) -> Result<()> {
        let control = match self {
            Self::Breakpoints => USER | EXECUTE,
            Self::Watchpoints => USER | STORE,
        };
        let mut state = State::default();
        state.slots[slot] = Slot {
            address,
            control,
            padding: 0,
        };
        self.write(pid, state)
    }

    /// Has nothing be set.
    pub(crate) fn clear(self, pid: Pid) -> Result<()> {
        self.write(pid, State::default())
    }

    fn write(self, pid: Pid, mut state: State) -> Result<()> {
        // The kernel refuses slots that are not there.
        let slots = self.count(pid)?;
        self.exchange(libc::PTRACE_SETREGSET, pid, &mut state, slots)
    }

    fn exchange(
        self,
        request: libc::c_int,
        pid: Pid,
        state: &mut State,
        slots: usize,
    ) -> Result<()> {
        let mut vector = libc::iovec {
            iov_base: (&raw mut *state).cast(),
            iov_len: size_of::<State>() - (SLOTS - slots) * size_of::<Slot>(),
        };
        // SAFETY: The kernel reads or writes `iov_len` bytes of `state`, for which every pattern of
        // bits is valid, and `vector`; neither is used by others meanwhile.
        let result = unsafe { libc::ptrace(request, pid.as_raw(), self as usize, &raw mut vector) };
        if result < 0 {
            return Err(io::Error::last_os_error()).with_context(|| format!("ptrace, {self:?}"));
        }
        Ok(())
    }
}
