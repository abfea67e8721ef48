//! What a boot test declares: the machine, the guest, and what must come of it.

use std::time::Duration;

use anyhow::Result;
use xtask::size::Size;
use xtask::vms::Spec;

/// How a run must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The guest gives the verdict `passed` and everything powers off.
    Passed,
    /// Everything powers off, and no guest gives a verdict.
    PoweredOff,
    /// The guest gives the verdict `failed` and everything powers off.
    Failed,
    /// The hypervisor stops the guest and goes on to a power-off.
    Stopped,
    /// The hypervisor panics, and ends QEMU.
    Panicked,
    /// QEMU ends well, and the console has nothing of Tessera's.
    Quit,
}

/// A boot test.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The name, which is also the name of its folder: lower-case letters, digits and dashes.
    pub name: &'static str,
    /// The virtual machines: each a guest's name, or keys and values as after `--vm`.
    pub vms: Vec<&'static str>,
    /// Whether the first guest is given as an ELF file.
    pub is_elf: bool,
    /// Whether the hypervisor is handed the image of the one guest as it is, without an archive and
    /// its name.
    pub as_image: bool,
    /// QEMU's CPU model.
    pub cpu: &'static str,
    /// The number of CPUs.
    pub cpus: u32,
    /// The machine's RAM.
    pub memory: Size,
    /// The hypervisor's boot arguments.
    pub hyp_args: &'static str,
    /// How the run must end.
    pub ending: Ending,
    /// What is typed, one after the other, each when a line begins that has the first of the pair
    /// in it.
    pub typed: Vec<(&'static str, &'static str)>,
    /// Regular expressions; each must be found in a line of the console.
    pub wanted: Vec<&'static str>,
    /// Regular expressions; none may be found in a line of the console.
    pub unwanted: Vec<&'static str>,
    /// Names of trace events; one of each must come, and no frame of them broken.
    pub traced: Vec<&'static str>,
    /// Whether time is a count of instructions, at one a nanosecond.
    pub counted: bool,
    /// Whether what boots is the smallest hypervisor, `tests/embed`, in the place of Tessera.
    pub embeds: bool,
    /// Whether there is a firmware at EL3 that offers workarounds against attacks by speculation.
    pub on_firmware: bool,
    /// Whether what was traced is replayed by the checker of the protocol.
    pub replayed: bool,
    /// What the checker must report, of what it was traced for.
    pub broken: Option<&'static str>,
    /// Whether each VM must have taken turns with others on a CPU, and one have moved to another.
    pub in_turns: bool,
    /// What it must have seen, as it calls it.
    pub seen: Vec<&'static str>,
    /// How long the run may take.
    pub timeout: Duration,
    /// Whether the test belongs to the quick ones.
    pub quick: bool,
    /// Why it may fail by chance, where it may: then it has a second try, which is told.
    pub flaky: Option<&'static str>,
}

impl Scenario {
    /// A test of `guest` that must pass within a minute on one `max` CPU with 512 MiB, without a
    /// complaint of the hypervisor.
    pub fn new(name: &'static str, guest: &'static str) -> Self {
        Self {
            name,
            vms: vec![guest],
            is_elf: false,
            as_image: false,
            cpu: "max",
            cpus: 1,
            memory: Size::mib(512),
            hyp_args: "",
            ending: Ending::Passed,
            typed: Vec::new(),
            wanted: Vec::new(),
            unwanted: vec![r"^\[ *[0-9.]+\] cpu\d+ (ERROR|WARN)"],
            traced: Vec::new(),
            counted: false,
            embeds: false,
            on_firmware: false,
            replayed: false,
            broken: None,
            in_turns: false,
            seen: Vec::new(),
            timeout: Duration::from_secs(60),
            quick: false,
            flaky: None,
        }
    }

    /// The guest, one of the workspace's, is given as the ELF file that it was linked as.
    pub fn as_elf(mut self) -> Self {
        self.is_elf = true;
        self
    }

    /// Beside the first one there is this virtual machine.
    pub fn beside(mut self, vm: &'static str) -> Self {
        self.vms.push(vm);
        self
    }

    /// The hypervisor is handed the image of the one guest as it is.
    pub fn as_image(mut self) -> Self {
        self.as_image = true;
        self
    }

    /// The virtual machines.
    ///
    /// # Errors
    ///
    /// When one is not described as it should be.
    pub fn specs(&self) -> Result<Vec<Spec>> {
        let spec = |vm: &&str| match vm.contains('=') {
            true => Spec::parse(vm),
            false => Ok(Spec::of_guest(vm)),
        };
        self.vms.iter().map(spec).collect()
    }

    /// Whether what is traced is judged.
    pub fn is_traced(&self) -> bool {
        self.replayed || self.in_turns || !self.traced.is_empty()
    }

    /// On so many CPUs of this model.
    pub fn on(mut self, cpus: u32, cpu: &'static str) -> Self {
        self.cpus = cpus;
        self.cpu = cpu;
        self
    }

    /// With this much RAM.
    pub fn memory(mut self, memory: Size) -> Self {
        self.memory = memory;
        self
    }

    /// With these boot arguments of the hypervisor.
    pub fn args(mut self, hyp_args: &'static str) -> Self {
        self.hyp_args = hyp_args;
        self
    }

    /// Ends like this.
    pub fn ends(mut self, ending: Ending) -> Self {
        self.ending = ending;
        self
    }

    /// When a line begins that has `prompt` in it, and what was to be typed before has been, `text`
    /// is typed.
    pub fn types(mut self, prompt: &'static str, text: &'static str) -> Self {
        self.typed.push((prompt, text));
        self
    }

    /// A line that this regular expression is found in must come.
    pub fn wants(mut self, pattern: &'static str) -> Self {
        self.wanted.push(pattern);
        self
    }

    /// No line of the console may match this regular expression.
    pub fn does_not_want(mut self, pattern: &'static str) -> Self {
        self.unwanted.push(pattern);
        self
    }

    /// Time is a count of instructions, at one a nanosecond, so that what takes how long is not up
    /// to the host.
    pub fn counts_instructions(mut self) -> Self {
        self.counted = true;
        self
    }

    /// The smallest hypervisor boots, which has a guest of its own.
    pub fn embeds(mut self) -> Self {
        self.embeds = true;
        self.ends(Ending::Quit)
    }

    /// On a firmware at EL3 that offers workarounds against attacks by speculation. It knows one
    /// CPU.
    pub fn on_firmware(mut self) -> Self {
        self.on_firmware = true;
        self
    }

    /// What was traced for a checker must come whole and keep the rules, but for one that it
    /// [`breaks`](Self::breaks).
    pub fn keeps_the_rules(mut self) -> Self {
        self.replayed = true;
        self
    }

    /// What was traced for a checker must come whole, and it must report this, a rule or what it
    /// says of how one is broken.
    pub fn breaks(mut self, what: &'static str) -> Self {
        self.broken = Some(what);
        self.keeps_the_rules()
    }

    /// Each VM must take turns with others on a CPU, and one get from one CPU to another. Needs
    /// `trace=sched`.
    pub fn takes_turns(mut self) -> Self {
        self.in_turns = true;
        self
    }

    /// The checker must have seen these instructions and changes of entries, as it calls them.
    pub fn sees(mut self, names: &[&'static str]) -> Self {
        self.seen.extend(names);
        self
    }

    /// Events of these names must be traced.
    pub fn traces(mut self, names: &[&'static str]) -> Self {
        self.traced.extend(names);
        self
    }

    /// The hypervisor may log warnings and errors: the test is about what causes them.
    pub fn may_complain(mut self) -> Self {
        self.unwanted.clear();
        self
    }

    /// Has so many seconds.
    pub fn within(mut self, seconds: u64) -> Self {
        self.timeout = Duration::from_secs(seconds);
        self
    }

    /// May fail by chance, for this reason, and is tried again then.
    pub fn may_fail_by_chance(mut self, reason: &'static str) -> Self {
        self.flaky = Some(reason);
        self
    }

    /// Is one of the quick ones.
    pub fn quick(mut self) -> Self {
        self.quick = true;
        self
    }
}
