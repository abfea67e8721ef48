//! Runs a piece of code one instruction at a time, and tells what these were and which cache lines
//! they read and wrote.
//!
//! The CPU traps after each instruction while EFLAGS.TF is set (Intel SDM 3A, 18.3.1.4); the trap's
//! signal handler notes the registers, from which the addresses of all operands follow afterwards.
//! So every access is seen, whichever code makes it, and nothing has to be compiled for it. System
//! calls are not looked into.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ptr::{null_mut, with_exposed_provenance};

use iced_x86::{
    Decoder, DecoderOptions, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind,
    Register, UsedMemory,
};
use nix::libc::{self, c_int, c_void, siginfo_t, ucontext_t};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// Bytes of a cache line, log2.
const LINE_SHIFT: u32 = 6;
/// Instructions that there is room for.
const MOST: usize = 1 << 17;
/// The longest instruction there is.
const LONGEST: usize = 15;

/// What a piece of code did, in steps of one thread.
#[derive(Default)]
pub(crate) struct Steps {
    lines: BTreeMap<u64, Uses>,
    cost: Cost,
}

/// The instructions of a piece of code.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    /// All of them.
    pub(crate) instructions: usize,
    /// Those that wait until all stores before them are done: locked ones, exchanges and fences.
    pub(crate) waiting: usize,
}

#[derive(Clone, Copy, Default)]
struct Uses {
    reads: usize,
    writes: usize,
}

impl Steps {
    /// The instructions.
    pub(crate) fn cost(&self) -> Cost {
        self.cost
    }

    /// The lines that these steps write and those others use: how many, and how often the most
    /// written of them is written.
    pub(crate) fn shared_with(&self, others: &Steps) -> Shared {
        let written = self.lines.iter().filter(|(_, uses)| uses.writes > 0);
        let shared = written.filter(|(line, _)| others.lines.contains_key(line));
        let writes: Vec<_> = shared.map(|(_, uses)| uses.writes).collect();
        Shared {
            lines: writes.len(),
            most_written: writes.into_iter().max().unwrap_or(0),
        }
    }

    fn note(&mut self, instruction: &Instruction) {
        let to_memory =
            instruction.op0_kind() == OpKind::Memory || instruction.op1_kind() == OpKind::Memory;
        let waits = match instruction.mnemonic() {
            // Locked by itself.
            Mnemonic::Xchg => to_memory,
            Mnemonic::Mfence => true,
            _ => instruction.has_lock_prefix(),
        };
        self.cost.instructions += 1;
        self.cost.waiting += usize::from(waits);
    }

    fn note_use(&mut self, memory: &UsedMemory, state: &Registers) {
        let Some(address) = memory.virtual_address(0, |register, _, _| state.get(register)) else {
            return;
        };
        let (reads, writes) = match memory.access() {
            OpAccess::Read | OpAccess::CondRead => (1, 0),
            OpAccess::Write | OpAccess::CondWrite => (0, 1),
            OpAccess::ReadWrite | OpAccess::ReadCondWrite => (1, 1),
            OpAccess::None | OpAccess::NoMemAccess => return,
        };
        let last = address + (memory.memory_size().size() as u64).max(1) - 1;
        for line in address >> LINE_SHIFT..=last >> LINE_SHIFT {
            let uses = self.lines.entry(line).or_default();
            uses.reads += reads;
            uses.writes += writes;
        }
    }
}

/// Lines that one thread's operation writes and another thread's uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shared {
    /// How many.
    pub(crate) lines: usize,
    /// How often the one that is written most is written.
    pub(crate) most_written: usize,
}

/// The registers before an instruction.
#[derive(Clone, Copy)]
struct Registers {
    general: [u64; 16],
    rip: u64,
}

/// Where each of x86's general registers, by its number, is in a signal's context.
const PLACES: [c_int; 16] = [
    libc::REG_RAX,
    libc::REG_RCX,
    libc::REG_RDX,
    libc::REG_RBX,
    libc::REG_RSP,
    libc::REG_RBP,
    libc::REG_RSI,
    libc::REG_RDI,
    libc::REG_R8,
    libc::REG_R9,
    libc::REG_R10,
    libc::REG_R11,
    libc::REG_R12,
    libc::REG_R13,
    libc::REG_R14,
    libc::REG_R15,
];

impl Registers {
    fn get(&self, register: Register) -> Option<u64> {
        match register {
            Register::FS => Some(thread_pointer()),
            // The bases of the other segments are 0 in 64-bit mode, but for GS, which Linux's user
            // code does not use.
            _ if register.is_segment_register() => Some(0),
            Register::RIP => Some(self.rip),
            _ if register.is_gpr() => Some(self.general[register.full_register().number()]),
            _ => None,
        }
    }
}

/// The base of FS: by the ABI, what it points to begins with its own address.
fn thread_pointer() -> u64 {
    let base;
    // SAFETY: reads the thread's own control block.
    unsafe { std::arch::asm!("mov {}, fs:0", out(reg) base, options(nostack, readonly)) };
    base
}

thread_local! {
    /// Where this thread's steps are noted.
    static STEPS: Cell<*mut Vec<Registers>> = const { Cell::new(null_mut()) };
}

/// Notes the registers of the instruction that comes next. No allocation: there is room, or it is
/// left out.
extern "C" fn trapped(_: c_int, _: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel hands a handler with SA_SIGINFO a context of this type.
    let registers = unsafe { &(*context.cast::<ucontext_t>()).uc_mcontext.gregs };
    let steps = STEPS.get();
    if steps.is_null() {
        return;
    }
    // SAFETY: set by `steps_of` for the time of the steps, during which nobody else uses the
    // vector.
    let steps = unsafe { &mut *steps };
    if steps.len() < steps.capacity() {
        let of = |place: c_int| registers[place as usize] as u64;
        steps.push(Registers {
            general: PLACES.map(of),
            rip: of(libc::REG_RIP),
        });
    }
}

/// Does `work`, and tells what that took.
#[inline(never)]
pub(crate) fn steps_of(work: impl FnOnce()) -> Steps {
    let handler = SigHandler::SigAction(trapped);
    let action = SigAction::new(handler, SaFlags::SA_SIGINFO, SigSet::empty());
    // SAFETY: the handler calls nothing that a signal handler must not call.
    unsafe { sigaction(Signal::SIGTRAP, &action) }.expect("a signal that can be handled");
    let mut steps: Vec<Registers> = Vec::with_capacity(MOST);
    STEPS.set(&mut steps);
    // SAFETY: sets TF, whose traps are handled, and nothing else.
    unsafe { std::arch::asm!("pushfq", "or qword ptr [rsp], 0x100", "popfq") };
    work();
    // SAFETY: clears it.
    unsafe { std::arch::asm!("pushfq", "and qword ptr [rsp], ~0x100", "popfq") };
    STEPS.set(null_mut());
    assert!(steps.len() < MOST, "more steps than there is room for");
    let mut info = InstructionInfoFactory::new();
    let mut noted = Steps::default();
    for state in &steps {
        // SAFETY: the CPU fetched the instruction from there. The longest may reach beyond its end,
        // and so beyond the code only where that is the last of its mapping: what ends the program
        // is.
        let code = unsafe {
            std::slice::from_raw_parts(with_exposed_provenance(state.rip as usize), LONGEST)
        };
        let instruction = Decoder::with_ip(64, code, state.rip, DecoderOptions::NONE).decode();
        noted.note(&instruction);
        for memory in info.info(&instruction).used_memory() {
            noted.note_use(memory, state);
        }
    }
    noted
}
