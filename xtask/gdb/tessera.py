"""The command `tessera` of GDB: machines, threads, stage-2 walks and tables of a stopped hypervisor.

Reads memory by physical address, as QEMU can be asked to, so that it works wherever the CPUs were
stopped: EL2 maps every address to itself. What is being changed at that moment may be seen half done.
"""

import os
import sys
import threading
import time
from contextlib import contextmanager

import gdb

# The source tree stays as it is.
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import stage2

PAGE = 4096
NO_TABLE = 0


@contextmanager
def physical():
    """Addresses are physical ones in here."""
    set_physical(1)
    try:
        yield
    finally:
        set_physical(0)


def set_physical(on):
    gdb.execute(f"maintenance packet Qqemu.PhyMemMode:{on}", to_string=True)
    gdb.execute("maintenance flush dcache", to_string=True)


def static(name):
    """A static of the hypervisor, by its path."""
    symbol = gdb.lookup_global_symbol(name) or gdb.lookup_static_symbol(name)
    if symbol is None:
        raise gdb.GdbError(f"the hypervisor has no `{name}`; is it the one that this script is for?")
    return symbol.value()


def inner(value):
    """What is in the wrappers round a value: cells, atomics, structures of one field."""
    while value.type.strip_typedefs().code == gdb.TYPE_CODE_STRUCT:
        fields = [field for field in value.type.fields() if field.type.sizeof > 0]
        if len(fields) != 1:
            break
        value = value[fields[0]]
    return value


def number(value):
    return int(inner(value))


def some(value):
    """What an Option holds, or None. The type of a value names the variant that it is."""
    return value["Some"]["__0"] if has(value, "Some") else None


def within(value, name):
    """What is of the type `name` in the wrappers round a value, whatever they are in this release of Rust."""
    while value.type.strip_typedefs().name != name:
        wrapped = [field for field in ("data", "value", "__0") if has(value, field)]
        if not wrapped:
            raise gdb.GdbError(f"there is no {name} in it; is the hypervisor the one that this script is for?")
        value = value[wrapped[0]]
    return value


def has(value, name):
    return any(field.name == name for field in value.type.fields())


def variant(value):
    """The name of the variant of an enumeration without fields."""
    return str(value).rsplit("::", 1)[-1]


def owner_of(kind):
    """The owner's number, in the word by which a frame's metadata says what table it is."""
    return kind >> 4


class Tables:
    """The tables of one machine."""

    def __init__(self, vm):
        machines = static("tessera::vm::VMS")
        exists = 0 <= vm <= machines.type.range()[1]
        memory = some(machines[vm]["memory"]["value"]) if exists else None
        if memory is None:
            raise gdb.GdbError(f"vm{vm} has no memory; `tessera vms` lists those that have")
        self.vm = vm
        self.stage2 = memory["stage2"]
        config = self.stage2["config"]
        self.root = number(self.stage2["root"])
        self.bits = number(config["geometry"]["ipa_bits"])
        self.start = int(variant(config["geometry"]["start"])[1:])
        self.owner = owner_of(number(config["owner"]))
        self.forced = bool(config["format"]["force_write_back"])
        self.vmid = number(self.stage2["vmid"])

    def steps(self, ipa):
        """For each level of a walk: level, table, the entry's address, the entry."""
        # Tables side by side at the root take more bits of the address than others.
        index, table = ipa >> stage2.shift(self.start), self.root
        for level in range(self.start, 4):
            place = table + 8 * index
            entry = read(place, 8)
            yield level, place & ~(PAGE - 1), place, entry
            if stage2.kind(entry, level) != "table":
                return
            table = stage2.address(entry)
            index = ipa >> stage2.shift(level + 1) & stage2.ENTRIES - 1

    def markers(self):
        """All markers: level, first IPA, the entry's address, the entry."""
        roots = max(1, 1 << self.bits - stage2.shift(self.start) - 9)
        for table in range(roots):
            ipa = table << stage2.shift(self.start) + 9
            yield from self.markers_in(self.root + table * PAGE, self.start, ipa)

    def markers_in(self, table, level, ipa):
        for index, entry in enumerate(entries(table)):
            what, at = stage2.kind(entry, level), ipa + (index << stage2.shift(level))
            if what == "marker":
                yield level, at, table + 8 * index, entry
            elif what == "table":
                yield from self.markers_in(stage2.address(entry), level + 1, at)


def read(pa, size):
    try:
        return int.from_bytes(bytes(gdb.selected_inferior().read_memory(pa, size)), "little")
    except gdb.MemoryError:
        raise gdb.GdbError(f"no memory at {pa:#x} (PA)") from None


def entries(table):
    words = read(table, PAGE).to_bytes(PAGE, "little")
    return [int.from_bytes(words[at : at + 8], "little") for at in range(0, PAGE, 8)]


def meta(table):
    """The metadata of a table's frame; None outside the lowest region of RAM."""
    host = within(static("tessera::mm::HOST"), "tessera::mm::Host")
    inventory = host["machine"]["frames"]["inventory"]
    index = (table >> 12) - number(inventory["lowest_page"])
    frames = inventory["lowest"]
    if not 0 <= index < int(frames["len"]):
        return None
    return (frames["first"]["pointer"] + index).dereference()["table"]


def about(table):
    """Lock, owner and counts of a table in words."""
    found = meta(table)
    if found is None:
        return "no metadata"
    kind = number(found["kind"])
    if kind == NO_TABLE:
        return "no table"
    lock = inner(found["lock"])
    taken, served = number(lock["next_ticket"]), number(lock["next_serving"])
    waiting = taken - served
    held = "free" if not waiting else f"held, {waiting - 1} waiting"
    claimed = ", claimed" if number(found["claimed"]) else ""
    live = number(found["live"])
    return f"lock {held}; level {kind & 7} of owner {owner_of(kind)}; {live} entries in use{claimed}"


def integer(word):
    try:
        return int(gdb.parse_and_eval(word))
    except (gdb.error, ValueError):
        raise gdb.GdbError(f"`{word}` is no number") from None


class Tessera(gdb.Command):
    """What the hypervisor has in memory: tessera vms, threads, walk, table, markers, run, until-marker, guest-file.

tessera vms                 the machines, with their roots
tessera threads             the threads, and where they are
tessera walk VM IPA         each level's entry on the way to a guest's address, and its table;
                            the last table is `$table` from then on
tessera table PA            a table: lock, owner, what its entries are, its markers
tessera markers VM          all busy markers of a machine's tables
tessera run SECONDS         let the machine run for so long, which may be a fraction
tessera until-marker VM SECONDS
                            let it run until a busy marker stands in a machine's tables, or for so long
tessera guest-file FILE     read a guest's symbols too"""

    def __init__(self):
        super().__init__("tessera", gdb.COMMAND_DATA, prefix=True)


class Sub(gdb.Command):
    """A command of `tessera`: so many arguments, and a function of them."""

    def __init__(self, function, arguments, complete=gdb.COMPLETE_NONE):
        self.__doc__ = function.__doc__
        self.function, self.arguments = function, arguments
        name = function.__name__.replace("_", "-")
        super().__init__(f"tessera {name}", gdb.COMMAND_DATA, complete)

    def invoke(self, text, _):
        words = gdb.string_to_argv(text)
        if len(words) != len(self.arguments):
            raise gdb.GdbError(f"expected {' '.join(self.arguments) or 'no arguments'}")
        self.function(*words)


def vms():
    """List the machines that have memory."""
    with physical():
        machines = static("tessera::vm::VMS")
        last = machines.type.range()[1]
        for vm in range(last + 1):
            if some(machines[vm]["memory"]["value"]) is None:
                continue
            tables = Tables(vm)
            print(
                f"vm{vm}: {number(machines[vm]['threads'])} vCPU threads, owner {tables.owner}, "
                f"{tables.bits} bits of IPA, root of level {tables.start} at {tables.root:#x} (PA), "
                f"VMID {tables.vmid & 0xFFFF:#x}"
            )


def threads():
    """List the threads, and which of them are on a CPU."""
    with physical():
        table, cpus = static("tessera::sched::thread::THREADS"), static("tessera::sched::cpu::CPUS")
        count = cpus.type.range()[1] + 1
        current = {number(cpus[cpu]["local"]["current"]): cpu for cpu in range(count)}
        for index in range(table.type.range()[1] + 1):
            thread = table[index]
            if not number(thread["in_use"]):
                continue
            name = thread["fixed"]["value"]["name"]
            text = bytes(
                gdb.selected_inferior().read_memory(int(name["data_ptr"]), int(name["length"]))
            ).decode(errors="replace")
            where = f"on cpu{current[index]}" if index in current else f"off, last on cpu{number(thread['cpu'])}"
            print(f"{index:4} {text:<12} {where}, SP {number(thread['sp']):#x}")


def walk(vm, ipa):
    """Walk a machine's stage-2 tables to a guest's address (IPA)."""
    ipa = integer(ipa)
    with physical():
        tables = Tables(integer(vm))
        if ipa >> tables.bits:
            raise gdb.GdbError(f"{ipa:#x} is outside of vm{tables.vm}'s {tables.bits} bits of IPA")
        print(f"vm{tables.vm}, IPA {ipa:#x}:")
        for level, table, place, entry in tables.steps(ipa):
            print(f"  level {level}: table {table:#x} ({about(table)})")
            gdb.set_convenience_variable("table", table)
            print(f"    entry {place:#x} = {entry:#018x}: {stage2.words(entry, level, tables.forced)}")


def table(pa):
    """Show the table at a physical address: its lock, its owner, and what is in it."""
    pa = integer(pa) & ~(PAGE - 1)
    with physical():
        found = meta(pa)
        if found is None or number(found["kind"]) == NO_TABLE:
            raise gdb.GdbError(f"the frame at {pa:#x} is no table")
        level = number(found["kind"]) & 7
        print(f"table {pa:#x}: {about(pa)}")
        counts = {}
        for index, entry in enumerate(entries(pa)):
            what = stage2.kind(entry, level)
            counts[what] = counts.get(what, 0) + 1
            if what in ("marker", "bad"):
                print(f"  entry {index}: {stage2.words(entry, level, False)}")
        print("  " + ", ".join(f"{count} {what}" for what, count in sorted(counts.items())))


def marker_line(level, ipa, place, entry):
    return f"level {level}, IPA {ipa:#x}, entry {place:#x}: {stage2.words(entry, level, False)}"


def markers(vm):
    """List the busy markers of a machine's tables."""
    with physical():
        tables, count = Tables(integer(vm)), 0
        for marker in tables.markers():
            count += 1
            print(f"  {marker_line(*marker)}")
        print(f"vm{tables.vm}: {count} markers")


class Power:
    """Whether the machine is on. QEMU keeps one that is off, and stops with SIGQUIT when it goes off."""

    def __init__(self):
        self.off = False
        gdb.events.stop.connect(self.stopped)

    def stopped(self, event):
        self.off |= isinstance(event, gdb.SignalEvent) and event.stop_signal == "SIGQUIT"

    def check(self):
        """Refuses to let a machine go on that is off: GDB would wait for ever."""
        if self.off:
            raise gdb.GdbError("the machine is off; its memory can still be looked at")


POWER = Power()


def duration(word):
    """A time in seconds, also a fraction."""
    try:
        seconds = float(word)
    except ValueError:
        seconds = integer(word)
    if not 0 < seconds < threading.TIMEOUT_MAX:
        raise gdb.GdbError(f"expected a time in seconds above 0, such as 2 or 0.25, and not `{word}`")
    return seconds


def go_on(seconds):
    """Let the machine run until something stops it; says whether that was neither the time nor the power-off."""
    POWER.check()
    ended = threading.Event()

    def stop():
        ended.set()
        gdb.execute("interrupt")

    timer = threading.Timer(seconds, lambda: gdb.post_event(stop))
    timer.daemon = True
    timer.start()
    try:
        gdb.execute("continue")
    finally:
        timer.cancel()
    if POWER.off:
        print("The machine has switched itself off; its memory can still be looked at.")
    return not ended.is_set() and not POWER.off


def power():
    """Fail if the machine is off, say nothing else."""
    POWER.check()


def run(seconds):
    """Let the machine run for so many seconds, unless something stops it before."""
    go_on(duration(seconds))


def flushes():
    """The places at which TLBs are invalidated: a marker stands there, if it was that which made it necessary."""
    found = gdb.execute("info functions -q -n ^stage2::stage2::Stage2<.*>::flush[<(]", to_string=True)
    line = next((line.split(":")[0] for line in found.splitlines() if "::flush" in line), "")
    if not line.strip().isdigit():
        raise gdb.GdbError("the hypervisor has no `Stage2::flush`; is it the one that this script is for?")
    place = gdb.Breakpoint(source="stage2.rs", line=int(line), internal=True)
    place.silent = True
    return place


def until_marker(vm, seconds):
    """Let the machine run until a busy marker stands in a VM's tables, for so many seconds at most."""
    vm, end = integer(vm), time.monotonic() + duration(seconds)
    POWER.check()
    place = flushes()
    try:
        while go_on(max(end - time.monotonic(), 0.01)) and place.hit_count:
            place.hit_count = 0
            with physical():
                marker = next(Tables(vm).markers(), None)
            if marker:
                print(f"vm{vm}: {marker_line(*marker)}")
                return
    finally:
        place.delete()
    print(f"vm{vm}: no marker stood in that time")


def guest_file(file):
    """Read a guest's symbols, beside the hypervisor's. Their addresses are the guest's own."""
    try:
        gdb.execute(f"add-symbol-file {file}", to_string=True)
    except gdb.error as error:
        raise gdb.GdbError(f"no symbols are read: {error}") from error


Tessera()
Sub(vms, [])
Sub(threads, [])
Sub(walk, ["VM", "IPA"])
Sub(table, ["PA"])
Sub(markers, ["VM"])
Sub(power, [])
Sub(run, ["SECONDS"])
Sub(until_marker, ["VM", "SECONDS"])
Sub(guest_file, ["FILE"], gdb.COMPLETE_FILENAME)
gdb.execute("define hook-continue\ntessera power\nend")
