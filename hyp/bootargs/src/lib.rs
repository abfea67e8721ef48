//! The hypervisor's boot arguments: `/chosen/bootargs`, parsed into a typed value.
//!
//! Arguments are words of the form `key=value`, separated by blanks; a value that contains blanks
//! is put in double quotes. Parsing cannot fail: an argument that is unknown or malformed is
//! reported to the caller and left out, and its default stands. The hypervisor logs such an
//! argument and goes on; a tool that is about to boot it can refuse.

#![cfg_attr(not(test), no_std)]

use core::fmt;

use log::LevelFilter;
use trace::Categories;

/// The largest number of vCPUs that a VM may have.
pub const MAX_VCPUS: usize = 8;

/// The largest number of VMs.
pub const MAX_VMS: usize = 8;

/// Bytes of a page, of which memory sizes must be multiples.
const PAGE: u64 = 4096;

/// Whether the compaction thread runs, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compaction {
    /// It does not run.
    Off,
    /// It collapses and moves where that pays.
    On,
    /// It collapses, splits, moves and unmaps at random, to make races frequent.
    Stress,
}

/// How guests' output gets to the console.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConsoleMode {
    /// In lines, with the name of the guest before each, and control characters made harmless.
    Lines,
    /// Byte for byte, for a terminal.
    Raw,
}

/// How stage-2 faults use 2 MiB frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HugePolicy {
    /// A fault maps a 2 MiB block where one fits.
    Always,
    /// A fault maps single pages only.
    Never,
    /// A fault reserves a 2 MiB frame and maps single pages of it, to be collapsed in place later.
    Reserve,
}

/// What is done against attacks by speculation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mitigations {
    /// What each CPU needs.
    On,
    /// Nothing that takes time.
    Off,
    /// What each CPU needs, as if the firmware offered its workarounds, for tests.
    AsWithFirmware,
    /// What each CPU needs, as if all had FEAT_CLRBHB, for tests.
    AsWithClrbhb,
}

/// A way to fail on purpose, so that the report and the rights of EL2's own memory can be tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InjectedFault {
    /// Panic.
    Panic,
    /// Call without end, until the stack's guard page is hit.
    Overflow,
    /// Write to code.
    WriteCode,
    /// Execute data.
    RunData,
    /// Load what the hardware refuses, as if it were a guest's, before failing.
    BadMemory,
}

/// A rule of isolation that is broken on purpose, so that the checker of recordings can be tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breach {
    /// TLBs are left as they are when a new generation of VMIDs begins.
    Vmid,
    /// A frame of a guest is mapped at a second address of it.
    Twice,
    /// A page of the hypervisor's image is mapped.
    Image,
    /// Registers of the machine's own interrupt controller are mapped.
    Device,
}

/// The boot arguments, with defaults for those not given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootArgs<'a> {
    /// `log`: the least urgent messages that are printed.
    pub log: LevelFilter,
    /// `vcpus`: the guest's vCPUs, 1 to [`MAX_VCPUS`]; `None` means as many as there are CPUs.
    pub vcpus: Option<usize>,
    /// `guest-memory`: the guest's RAM in bytes, a multiple of 4 KiB.
    pub guest_memory: u64,
    /// `guest-args`: the guest's own boot arguments.
    pub guest_args: &'a str,
    /// `console`: how guests' output gets to the console.
    pub console: ConsoleMode,
    /// `compaction`: whether the compaction thread runs.
    pub compaction: Compaction,
    /// `compaction-period`: how long the compaction thread sleeps between steps, in milliseconds.
    pub compaction_period: u32,
    /// `compaction-step`: how many pages the compaction thread looks at or copies in a step.
    pub compaction_step: u32,
    /// `collapse-fill`: how many of a region's 512 pages must be mapped to collapse it by copying.
    pub collapse_fill: u32,
    /// `huge`: how faults use 2 MiB frames.
    pub huge: HugePolicy,
    /// `frames`: the most physical memory that the hypervisor uses, in bytes, a multiple of 4 KiB;
    /// `None` means all.
    pub frames: Option<u64>,
    /// `trace`: the events that are sent over the console.
    pub trace: Categories,
    /// `table-calls`: guests may have their own tables worked on, for measurements and tests.
    pub table_calls: bool,
    /// `error-calls`: guests may have asynchronous errors found that they have caused, for tests.
    pub error_calls: bool,
    /// `console-baud`: the most bits a second that are sent over the console; `None` means as fast
    /// as the UART is.
    pub console_baud: Option<u32>,
    /// `gic-tdir`: `ICH_HCR_EL2.TDIR` is used where there is one; off for tests of what CPUs
    /// without it need.
    pub gic_tdir: bool,
    /// `mitigations`: what is done against attacks by speculation.
    pub mitigations: Mitigations,
    /// `panic`: the hypervisor fails on purpose once it is up.
    pub panic: Option<InjectedFault>,
    /// `vmid-bits`: VMIDs have so many bits, if not fewer, for tests: few numbers for many
    /// machines.
    pub vmid_bits: Option<u32>,
    /// `breach`: a rule of isolation is broken on purpose, for tests.
    pub breach: Option<Breach>,
}

impl Default for BootArgs<'_> {
    fn default() -> Self {
        Self {
            log: LevelFilter::Info,
            vcpus: None,
            guest_memory: 128 << 20,
            guest_args: "",
            console: ConsoleMode::Lines,
            compaction: Compaction::On,
            compaction_period: 10,
            compaction_step: 64,
            collapse_fill: 400,
            huge: HugePolicy::Reserve,
            frames: None,
            trace: Categories::NONE,
            table_calls: false,
            error_calls: false,
            console_baud: None,
            gic_tdir: true,
            mitigations: Mitigations::On,
            panic: None,
            vmid_bits: None,
            breach: None,
        }
    }
}

/// Every argument and its values, as shown to a user whose argument was not understood.
pub const KNOWN: &[&str] = &[
    "log=error|warn|info|debug|trace",
    "vcpus=1..8",
    "guest-memory=SIZE",
    "guest-args=\"...\"",
    "console=lines|raw",
    "console-baud=300..10000000",
    "compaction=on|off|stress",
    "compaction-period=MILLISECONDS",
    "compaction-step=PAGES",
    "collapse-fill=1..512",
    "huge=always|never|reserve",
    "frames=SIZE",
    "trace=all|off|LIST of fault,map,change,race,free,tlb,vcpu,sched,log,replay",
    "table-calls=on|off",
    "error-calls=on|off",
    "gic-tdir=on|off",
    "mitigations=on|off|firmware|clrbhb",
    "panic=now|overflow|write-code|run-data|bad-memory",
    "vmid-bits=2..16",
    "breach=vmid|twice|image|device",
];

/// An argument that was left out, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Complaint<'a> {
    /// The word as it was given.
    pub argument: &'a str,
    /// What is wrong with it.
    pub reason: Reason,
}

/// What is wrong with an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// There is no such key.
    Unknown,
    /// The word has no `=`.
    NoValue,
    /// The value's quotes are not closed.
    OpenQuote,
    /// The value is not one that the key takes; this is what it takes.
    Expected(&'static str),
}

impl fmt::Display for Complaint<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { argument, reason } = self;
        write!(f, "boot argument `{argument}` ignored: {reason}")
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("unknown"),
            Self::NoValue => f.write_str("no value, expected key=value"),
            Self::OpenQuote => f.write_str("its closing quote is missing"),
            Self::Expected(values) => write!(f, "expected {values}"),
        }
    }
}

/// Parses boot arguments. Every word that is not understood is handed to `complain` and left out;
/// of several words with one key the last one that is understood counts.
pub fn parse<'a>(text: &'a str, complain: &mut impl FnMut(Complaint<'a>)) -> BootArgs<'a> {
    let mut args = BootArgs::default();
    for argument in words(text) {
        if let Err(reason) = set(&mut args, argument) {
            complain(Complaint { argument, reason });
        }
    }
    args
}

/// The arguments in a text: runs of characters that are no blanks, or stand between double quotes.
pub fn words(text: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    text.split(move |character: char| {
        quoted ^= character == '"';
        character.is_whitespace() && !quoted
    })
    .filter(|word| !word.is_empty())
}

/// Puts one argument's value into its place.
fn set<'a>(args: &mut BootArgs<'a>, argument: &'a str) -> Result<(), Reason> {
    let (key, value) = argument.split_once('=').ok_or(Reason::NoValue)?;
    let value = unquoted(value)?;
    match key {
        "log" => {
            args.log = choice(
                value,
                "error, warn, info, debug or trace",
                &[
                    ("error", LevelFilter::Error),
                    ("warn", LevelFilter::Warn),
                    ("info", LevelFilter::Info),
                    ("debug", LevelFilter::Debug),
                    ("trace", LevelFilter::Trace),
                ],
            )?;
        }
        "vcpus" => {
            args.vcpus = Some(vcpus(value).ok_or(Reason::Expected(VCPUS))?);
        }
        "guest-memory" => args.guest_memory = size(value).ok_or(Reason::Expected(SIZE))?,
        "guest-args" => args.guest_args = value,
        "console" => {
            args.console = choice(
                value,
                "lines or raw",
                &[("lines", ConsoleMode::Lines), ("raw", ConsoleMode::Raw)],
            )?;
        }
        "compaction" => {
            args.compaction = choice(
                value,
                "on, off or stress",
                &[
                    ("on", Compaction::On),
                    ("off", Compaction::Off),
                    ("stress", Compaction::Stress),
                ],
            )?;
        }
        "console-baud" => {
            const EXPECTED: &str = "bits a second from 300 to 10000000";
            args.console_baud = Some(number(value, 300, 10_000_000, EXPECTED)?);
        }
        "compaction-period" => {
            const EXPECTED: &str = "milliseconds from 1 to 60000";
            args.compaction_period = number(value, 1, 60_000, EXPECTED)?;
        }
        "compaction-step" => {
            args.compaction_step = number(value, 1, 65_536, "pages from 1 to 65536")?;
        }
        "collapse-fill" => {
            args.collapse_fill = number(value, 1, 512, "a number from 1 to 512")?;
        }
        "huge" => {
            args.huge = choice(
                value,
                "always, never or reserve",
                &[
                    ("always", HugePolicy::Always),
                    ("never", HugePolicy::Never),
                    ("reserve", HugePolicy::Reserve),
                ],
            )?;
        }
        "frames" => args.frames = Some(size(value).ok_or(Reason::Expected(SIZE))?),
        "trace" => args.trace = Categories::parse(value).ok_or(Reason::Expected(TRACE))?,
        "table-calls" => {
            args.table_calls = choice(value, "on or off", &[("on", true), ("off", false)])?;
        }
        "error-calls" => {
            args.error_calls = choice(value, "on or off", &[("on", true), ("off", false)])?;
        }
        "gic-tdir" => {
            args.gic_tdir = choice(value, "on or off", &[("on", true), ("off", false)])?;
        }
        "mitigations" => {
            args.mitigations = choice(
                value,
                "on, off, firmware or clrbhb",
                &[
                    ("on", Mitigations::On),
                    ("off", Mitigations::Off),
                    ("firmware", Mitigations::AsWithFirmware),
                    ("clrbhb", Mitigations::AsWithClrbhb),
                ],
            )?;
        }
        "panic" => {
            let fault = choice(
                value,
                "now, overflow, write-code, run-data or bad-memory",
                &[
                    ("now", InjectedFault::Panic),
                    ("overflow", InjectedFault::Overflow),
                    ("write-code", InjectedFault::WriteCode),
                    ("run-data", InjectedFault::RunData),
                    ("bad-memory", InjectedFault::BadMemory),
                ],
            )?;
            args.panic = Some(fault);
        }
        "vmid-bits" => args.vmid_bits = Some(number(value, 2, 16, "a number from 2 to 16")?),
        "breach" => {
            let breach = choice(
                value,
                "vmid, twice, image or device",
                &[
                    ("vmid", Breach::Vmid),
                    ("twice", Breach::Twice),
                    ("image", Breach::Image),
                    ("device", Breach::Device),
                ],
            )?;
            args.breach = Some(breach);
        }
        _ => return Err(Reason::Unknown),
    }
    Ok(())
}

/// A value without the quotes around it, if there are any.
fn unquoted(value: &str) -> Result<&str, Reason> {
    match value.strip_prefix('"') {
        Some(rest) => rest.strip_suffix('"').ok_or(Reason::OpenQuote),
        None => Ok(value),
    }
}

fn choice<T: Copy>(
    value: &str,
    expected: &'static str,
    choices: &[(&str, T)],
) -> Result<T, Reason> {
    choices
        .iter()
        .find(|(name, _)| *name == value)
        .map(|&(_, choice)| choice)
        .ok_or(Reason::Expected(expected))
}

fn number(value: &str, least: u32, most: u32, expected: &'static str) -> Result<u32, Reason> {
    value
        .parse()
        .ok()
        .filter(|number| (least..=most).contains(number))
        .ok_or(Reason::Expected(expected))
}

/// What a list of events looks like.
const TRACE: &str = "all, off, or some of fault,map,change,race,free,tlb,vcpu,sched,log,replay";

/// What a number of vCPUs looks like.
pub const VCPUS: &str = "a number from 1 to 8";

/// A number of vCPUs.
pub fn vcpus(value: &str) -> Option<usize> {
    let count = value.parse().ok();
    count.filter(|count| (1..=MAX_VCPUS).contains(count))
}

/// What a size of memory looks like.
pub const SIZE: &str = "a size such as 128M (suffixes K, M, G), a multiple of 4K";

/// Bytes, from a number with an optional suffix K, M or G; at least one page, and whole pages.
pub fn size(value: &str) -> Option<u64> {
    let shift = match value.bytes().last() {
        Some(b'K' | b'k') => 10,
        Some(b'M' | b'm') => 20,
        Some(b'G' | b'g') => 30,
        _ => 0,
    };
    let digits = if shift == 0 {
        value
    } else {
        &value[..value.len() - 1]
    };
    digits
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(1 << shift))
        .filter(|bytes| *bytes > 0 && bytes.is_multiple_of(PAGE))
}

#[cfg(test)]
mod tests;
