//! What a vCPU does: one step after the other.

use core::arch::asm;
use core::fmt::{self, Display, Formatter};

use guest::random::Random;
use spin::Once;

use crate::cage::{self, Caged};
use crate::kinds::{KINDS, Kind};
use crate::places::Places;
use crate::step::{INTERRUPTS_MASKED, Step, Taker};
use crate::tally::{self, Tally};
use crate::words::END;

/// Exceptions of one step, at most: a step that meets more goes round in circles.
const MOST_EXCEPTIONS: u32 = 100;
/// Steps from one time that the interrupt controller is set up to the next.
const STEPS_PER_OPENING: u64 = 16;
/// Ticks after which the timer ends a step that may never end by itself.
const PATIENCE: u64 = 50_000;

/// `ESR_EL1.EC`, and what is looked for in it.
const CLASS: u32 = 26;
const SUPERVISOR_CALL: u64 = 0x15;
const DATA_ABORT: u64 = 0x25;
const BREAKPOINT: u64 = 0x3c;
/// DFSC: a synchronous external abort.
const EXTERNAL: u64 = 0x10;
const STATUS: u64 = 0x3f;
/// The least INTID that is none.
const NO_INTERRUPT: u64 = 1020;

/// What all vCPUs know.
pub(crate) struct Chaos {
    pub(crate) places: Places,
    pub(crate) vcpus: usize,
    /// The seed of this life.
    pub(crate) seed: u64,
    /// Where a vCPU starts: an IPA.
    pub(crate) entry: u64,
}

pub(crate) static CHAOS: Once<Chaos> = Once::new();

/// Takes steps for ever. Called where a vCPU other than 0 starts.
pub(crate) extern "C" fn work(vcpu: usize) -> ! {
    loop {
        if let Some(chaos) = CHAOS.get() {
            take_step(chaos, vcpu);
        }
    }
}

/// Takes the next step of vCPU `vcpu`, which calls.
pub(crate) fn take_step(chaos: &Chaos, vcpu: usize) {
    let tally = tally::of(vcpu);
    let number = tally.begin();
    let seed = chaos.seed ^ (vcpu as u64) << 56 ^ number << 8;
    let mut random = Random::new(Random::new(seed).next());
    let kind = Kind::choose(&mut random, vcpu == 0);
    let taker = Taker {
        places: &chaos.places,
        vcpus: chaos.vcpus,
        entry: chaos.entry,
    };
    let step = KINDS[kind].step(&mut random, taker);
    tally.note(number, kind, step.digest());
    if number.is_multiple_of(STEPS_PER_OPENING) {
        let [distributor, redistributor] = chaos.places.interrupt_controller(vcpu);
        open_interrupts(distributor, redistributor);
    }
    if step.timed {
        arm_timer();
    }
    if let Err(wrong) = perform(vcpu, &step, tally) {
        panic!("vcpu {vcpu}, step {number}, {}: {wrong}", KINDS[kind].name);
    }
}

/// What must not come of a step.
enum Wrong {
    /// Not every access where nothing is ended in an external abort.
    NoAbort { instructions: usize, aborts: usize },
    /// A register that no instruction names has changed.
    Register { number: usize, from: u64, to: u64 },
}

impl Display for Wrong {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAbort {
                instructions,
                aborts,
            } => write!(
                f,
                "{aborts} of {instructions} accesses where nothing is ended in an external abort"
            ),
            Self::Register { number, from, to } => {
                write!(
                    f,
                    "x{number}, which no instruction names, went from {from:#x} to {to:#x}"
                )
            }
        }
    }
}

/// Runs a step to its end, or till it has left for good.
fn perform(vcpu: usize, step: &Step, tally: &Tally) -> Result<(), Wrong> {
    let start = cage::write(vcpu, step);
    let end = start + 4 * step.words().len() as u64;
    let mut caged = Caged::new(step.x, start, step.pstate);
    let mut aborts = 0;
    for _ in 0..MOST_EXCEPTIONS {
        caged = cage::run(vcpu, &caged);
        caged.pstate = step.pstate;
        let interrupt = matches!(caged.vector % 4, 1 | 2);
        if interrupt {
            tally::count(&tally.interrupts);
            take_interrupts();
            caged.pstate |= INTERRUPTS_MASKED;
        }
        if !(start..end).contains(&caged.pc) {
            break;
        }
        if interrupt {
            continue;
        }
        let word = step.words()[((caged.pc - start) / 4) as usize];
        let class = caged.esr >> CLASS;
        if class == BREAKPOINT && word == END {
            return compare(step, &caged, aborts);
        }
        tally::count(&tally.exceptions);
        aborts += usize::from(class == DATA_ABORT && caged.esr & STATUS == EXTERNAL);
        // A supervisor call names the instruction behind it.
        if class != SUPERVISOR_CALL {
            caged.pc += 4;
        }
    }
    Ok(())
}

/// At the end of a step of which so many instructions met an external abort.
fn compare(step: &Step, caged: &Caged, aborts: usize) -> Result<(), Wrong> {
    let instructions = step.words().len() - 1;
    if step.aborts && aborts != instructions {
        return Err(Wrong::NoAbort {
            instructions,
            aborts,
        });
    }
    let changed =
        |number: &usize| step.written >> number & 1 == 0 && step.x[*number] != caged.x[*number];
    (0..step.x.len()).find(changed).map_or(Ok(()), |number| {
        let (from, to) = (step.x[number], caged.x[number]);
        Err(Wrong::Register { number, from, to })
    })
}

/// Lets all interrupts through, whatever the steps before have made of them. The addresses are
/// those of the distributor and of the vCPU's redistributor.
fn open_interrupts(distributor: u64, redistributor: u64) {
    let writes = [
        // GICD_CTLR, GICR_WAKER, GICR_IGROUPR0, GICR_ISENABLER0.
        (distributor, 0x13),
        (redistributor + 0x14, 0),
        (redistributor + 0x1_0080, 0xffff_0000),
        (redistributor + 0x1_0100, u32::MAX),
    ];
    for (register, value) in writes {
        // SAFETY: a register of the interrupt controller, mapped as device memory; interrupts are
        // masked.
        unsafe { (register as *mut u32).write_volatile(value) };
    }
}

/// Has the virtual timer end a wait, if the interrupt controller is still of a mind to pass it on.
fn arm_timer() {
    // SAFETY: interrupts are masked; the timer and the CPU interface concern nothing else here.
    unsafe {
        asm!(
            "msr icc_pmr_el1, {mask}",
            "msr icc_igrpen0_el1, {one}",
            "msr icc_igrpen1_el1, {one}",
            "msr cntv_tval_el0, {patience}",
            "msr cntv_ctl_el0, {one}",
            "isb",
            mask = in(reg) 0xff_u64,
            one = in(reg) 1_u64,
            patience = in(reg) PATIENCE,
            options(nostack, preserves_flags)
        );
    }
}

/// Takes and ends what is pending, and silences the timers.
fn take_interrupts() {
    for _ in 0..MOST_EXCEPTIONS {
        let (first, second): (u64, u64);
        // SAFETY: interrupts are masked; only the interrupt controller's state and the timers
        // change.
        unsafe {
            asm!(
                "msr cntv_ctl_el0, xzr",
                "msr cntp_ctl_el0, xzr",
                "isb",
                "mrs {first}, icc_iar1_el1",
                "msr icc_eoir1_el1, {first}",
                "mrs {second}, icc_iar0_el1",
                "msr icc_eoir0_el1, {second}",
                "isb",
                first = out(reg) first,
                second = out(reg) second,
                options(nostack, preserves_flags)
            );
        }
        if first >= NO_INTERRUPT && second >= NO_INTERRUPT {
            return;
        }
    }
}
