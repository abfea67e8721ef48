//! A machine's flash: its chips' commands, and what they hold, together.
//!
//! While the chips show their contents, pages that the guest looks at are mapped read-only, since
//! firmware reads flash with instructions that cannot be emulated. A command takes the right to
//! read away, so that loads trap and find the answer. No lock is held from the command until then,
//! so another vCPU may for a moment read contents where an answer was due. It cannot stay so: the
//! vCPU that has given the right to read looks at the chips once more. And where the right was
//! taken away though contents are shown, the next load traps and gives it back.
//!
//! Lock: the chips, a leaf. [`View`] is called without it.

use spin::Mutex;
use stage2::{Execute, GuestFrame, Ipa, IpaRange, Rights};

use crate::board::FLASH;
use crate::flash::{BLOCK, Change, Flash, SIZE};
use memory::bank::Bank;
use memory::{GuestMemory, Machine, Outcome, Parts};

const _: () = assert!(SIZE == Bank::SIZE);

/// What erased flash reads as, and the bank behind its end.
const ERASED: u32 = u32::MAX;

/// No access: loads are to be answered.
const HIDDEN: Rights = Rights {
    read: false,
    write: false,
    execute: Execute::Never,
};

/// Where the guest sees the contents.
pub trait View {
    /// What the machine is made of.
    type Parts: Parts;

    /// The machine, which has the frames.
    fn machine(&self) -> &Machine<Self::Parts>;

    /// See [`GuestMemory::show`].
    fn show(&self, ipa: Ipa, frame: GuestFrame, rights: Rights) -> Outcome;

    /// See [`GuestMemory::allow`].
    fn allow(&self, range: IpaRange, rights: Rights) -> Outcome;
}

impl<P: Parts> View for GuestMemory<'_, P> {
    type Parts = P;

    fn machine(&self) -> &Machine<P> {
        GuestMemory::machine(self)
    }

    fn show(&self, ipa: Ipa, frame: GuestFrame, rights: Rights) -> Outcome {
        GuestMemory::show(self, ipa, frame, rights)
    }

    fn allow(&self, range: IpaRange, rights: Rights) -> Outcome {
        GuestMemory::allow(self, range, rights)
    }
}

/// A machine's chips.
#[derive(Debug)]
pub struct Chips {
    commands: Mutex<Flash>,
    contents: Bank,
}

impl Chips {
    /// Erased chips, which show their contents.
    pub const fn new() -> Self {
        Self {
            commands: Mutex::new(Flash::new()),
            contents: Bank::new(),
        }
    }

    /// The chips show their contents again, which stay.
    pub fn reset(&self) {
        *self.commands.lock() = Flash::new();
    }

    /// Gives the memory of the contents back. The machine is over.
    pub fn free<P: Parts>(&self, machine: &Machine<P>) {
        self.contents.free(machine);
    }

    /// Maps the page round `ipa`, if it is flash and shows its contents. On
    /// [`Outcome::OutOfMemory`] nothing is mapped.
    pub fn show(&self, view: &impl View, ipa: u64) -> Option<Outcome> {
        let offset = ipa.checked_sub(FLASH).filter(|&offset| offset < SIZE)?;
        if !self.commands.lock().shows_contents() {
            return None;
        }
        let Ok(page) = self.contents.page(view.machine(), offset) else {
            return Some(Outcome::OutOfMemory);
        };
        let shown = view.show(Ipa::new(ipa), page, Rights::READ_EXECUTE);
        self.hide_answers(view);
        Some(shown)
    }

    /// Takes the right to read away, which was just given, if another vCPU's command asks for an
    /// answer by now.
    fn hide_answers(&self, view: &impl View) {
        if !self.commands.lock().shows_contents() {
            allow(view, HIDDEN);
        }
    }

    /// What a load that trapped finds at `offset` bytes into the flash, up to four bytes.
    pub fn read(&self, offset: u64) -> u32 {
        if offset >= SIZE {
            return ERASED;
        }
        // It trapped for an answer, and another vCPU has ended that meanwhile: anything will do.
        self.commands.lock().read(offset).unwrap_or(ERASED)
    }

    /// The guest stores `size` bytes, at most four, at `offset` into the flash.
    pub fn write(&self, view: &impl View, offset: u64, size: u32, value: u32) {
        if offset >= SIZE {
            return;
        }
        let (before, change, after) = {
            let mut commands = self.commands.lock();
            let before = commands.shows_contents();
            let change = commands.write(offset, size, value);
            (before, change, commands.shows_contents())
        };
        self.carry_out(view.machine(), change);
        if before != after {
            allow(view, if after { Rights::READ_EXECUTE } else { HIDDEN });
        }
        if after {
            self.hide_answers(view);
        }
    }

    fn carry_out<P: Parts>(&self, machine: &Machine<P>, change: Change) {
        match change {
            Change::None => {}
            Change::Erase { offset } => self.contents.erase(machine, offset, BLOCK),
            Change::Program {
                offset,
                size,
                value,
            } => {
                let programmed = self.contents.program(machine, offset, size, value);
                if programmed.is_err() {
                    self.commands.lock().fail();
                }
            }
        }
    }
}

impl Default for Chips {
    fn default() -> Self {
        Self::new()
    }
}

/// Gives what is mapped of the flash these rights.
fn allow(view: &impl View, rights: Rights) {
    let flash = IpaRange::new(Ipa::new(FLASH), Ipa::new(FLASH + SIZE));
    // Its pages are mapped singly, so that nothing has to be split, and it cannot fail.
    flash.map(|flash| view.allow(flash, rights));
}

#[cfg(test)]
mod tests {
    use super::*;
    use bootargs::HugePolicy;
    use frames::LinearMap;
    use memory::testing::{Host, guest_at, machine};
    use stage2::Pa;
    use std::cell::{Cell, RefCell};
    use std::collections::VecDeque;

    /// Commands that ask for the status, and for the contents.
    const STATUS: Act = Act::Store(0x70);
    const CONTENTS: Act = Act::Store(0xff);
    /// More steps than three acts take.
    const STEPS: usize = 16;
    /// Of so many races one is run.
    const EVERY: usize = if cfg!(miri) { 600 } else { 1 };

    /// What a vCPU does at the flash's first word.
    #[derive(Clone, Copy, Debug)]
    enum Act {
        Load,
        Store(u32),
    }

    /// A guest's memory, round each change of which other vCPUs may get ahead.
    struct Steps<'m> {
        memory: GuestMemory<'m, Host>,
        chips: Chips,
        taken: Cell<usize>,
        /// Before which step each of the others does what.
        others: RefCell<VecDeque<(usize, Act)>>,
    }

    impl<'m> Steps<'m> {
        fn new(machine: &'m Machine<Host>) -> Self {
            Self {
                memory: guest_at(machine, HugePolicy::Never, crate::board::RAM_BASE),
                chips: Chips::new(),
                taken: Cell::new(0),
                others: RefCell::default(),
            }
        }

        fn step(&self) {
            let step = self.taken.replace(self.taken.get() + 1);
            while let Some(act) = self.due(step) {
                self.act(act);
            }
        }

        fn due(&self, step: usize) -> Option<Act> {
            let mut others = self.others.borrow_mut();
            let is_due = others.front().is_some_and(|&(before, _)| before <= step);
            is_due
                .then(|| others.pop_front())
                .flatten()
                .map(|(_, act)| act)
        }

        /// Does `first`, and what the others do meanwhile or, if there are fewer steps, afterwards.
        /// Returns the number of steps.
        fn race(&self, first: Act, others: [(usize, Act); 2]) -> usize {
            self.taken.set(0);
            self.others.replace(others.into());
            self.act(first);
            let steps = self.taken.get();
            while let Some(act) = self.due(usize::MAX) {
                self.act(act);
            }
            steps
        }

        fn act(&self, act: Act) {
            match act {
                Act::Load if self.is_readable() => {}
                Act::Load => drop(self.chips.show(self, FLASH)),
                Act::Store(command) => self.chips.write(self, 0, 4, command),
            }
        }

        /// The first word, as a guest finds it.
        fn load(&self) -> u32 {
            self.load_at(0)
        }

        fn load_at(&self, offset: u64) -> u32 {
            if !self.is_readable() && self.chips.show(self, FLASH).is_none() {
                return self.chips.read(offset);
            }
            let page = self.readable().expect("nobody else is here");
            let word = self
                .machine()
                .allocator()
                .map()
                .pointer(page.offset(offset));
            // SAFETY: a word of a page of the bank, which stays until the bank is freed.
            unsafe { word.cast::<u32>().read() }
        }

        fn is_readable(&self) -> bool {
            self.readable().is_some()
        }

        /// The first page, if it is mapped and can be read.
        fn readable(&self) -> Option<Pa> {
            let entry = self.memory.stage2().query(Ipa::new(FLASH))?;
            match entry.kind() {
                stage2::EntryKind::Leaf(page) if entry.descriptor.rights().read => Some(page),
                _ => None,
            }
        }

        fn end(self) {
            let Self { memory, chips, .. } = self;
            let machine = memory.machine();
            memory.destroy();
            chips.free(machine);
        }
    }

    impl View for Steps<'_> {
        type Parts = Host;

        fn machine(&self) -> &Machine<Host> {
            self.memory.machine()
        }

        fn show(&self, ipa: Ipa, frame: GuestFrame, rights: Rights) -> Outcome {
            self.step();
            let outcome = self.memory.show(ipa, frame, rights);
            self.step();
            outcome
        }

        fn allow(&self, range: IpaRange, rights: Rights) -> Outcome {
            self.step();
            let outcome = self.memory.allow(range, rights);
            self.step();
            outcome
        }
    }

    #[test]
    fn a_guest_finds_what_it_programmed_and_erased() {
        let machine = machine();
        let flash = Steps::new(&machine);
        assert_eq!(flash.load(), u32::MAX);
        flash.act(Act::Store(0x40));
        flash.act(Act::Store(0x1234_5678));
        assert_eq!(flash.load(), 0x0080_0080, "the status");
        flash.act(CONTENTS);
        assert_eq!(flash.load(), 0x1234_5678);
        flash.act(Act::Store(0x20));
        flash.act(Act::Store(0xd0));
        assert_eq!(flash.load(), 0x0080_0080, "until the machine is reset");
        flash.chips.reset();
        assert_eq!(flash.load(), u32::MAX);
        assert_eq!(flash.chips.show(&flash, FLASH + SIZE), None);
        assert_eq!(flash.chips.read(SIZE), ERASED);
        flash.end();
        assert_eq!(machine.allocator().usage().hypervisor, 0, "frames are lost");
    }

    #[test]
    fn nothing_is_stored_behind_the_end() {
        let machine = machine();
        let flash = Steps::new(&machine);
        flash.chips.write(&flash, SIZE, 4, 0x40);
        assert_eq!(flash.load(), u32::MAX, "contents");
        flash.end();
    }

    /// Whatever a load and commands of three vCPUs do to one another, it ends with contents that
    /// nobody can read while an answer is asked for.
    #[test]
    fn no_contents_stay_where_an_answer_is_asked_for() {
        let machine = machine();
        let before: [&[Act]; 3] = [&[], &[Act::Load], &[Act::Load, STATUS]];
        let acts = [Act::Load, STATUS, CONTENTS];
        let races = before.iter().flat_map(|&before| {
            let firsts = acts.iter().map(move |&first| (before, first));
            firsts.flat_map(|race| acts.map(|second| (race, second)))
        });
        let races = races.flat_map(|race| acts.map(|third| (race, third)));
        let times = || (0..STEPS).flat_map(|late| (0..=late).map(move |early| (early, late)));
        let races = races.flat_map(|race| times().map(move |at| (race, at)));
        for ((((before, first), second), third), at) in races.step_by(EVERY) {
            let flash = Steps::new(&machine);
            before.iter().for_each(|&act| flash.act(act));
            let steps = flash.race(first, [(at.0, second), (at.1, third)]);
            assert!(steps < STEPS, "{steps} steps");
            let shows = flash.chips.commands.lock().shows_contents();
            let what = (before, first, second, third, at);
            assert!(shows || !flash.is_readable(), "{what:?}");
            flash.end();
        }
    }
}
