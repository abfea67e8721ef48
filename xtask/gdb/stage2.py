"""Stage-2 descriptors in words: the debugger's copy of hyp/stage2/src/descriptor.rs.

Nothing here knows GDB. An entry is an int, its level 0 to 3.
"""

ADDRESS = 0x0000_FFFF_FFFF_F000
WORKS = ("collapse", "split", "move", "free table")
ENTRIES = 512
SOFTWARE = ((55, "writable"), (56, "deposit"), (57, "copied"), (58, "pinned"), (59, "dirty"))
EXECUTE = ("execute", "execute at EL0", "no execute", "execute at EL1")
# MemAttr[3:0] without FEAT_S2FWB, and MemAttr[2:0] with it (Arm ARM, "Stage 2 memory region attributes").
MEMORY = {0b1111: "normal", 0b0001: "device"}
MEMORY_FORCED = {0b110: "normal", 0b001: "device"}


def shift(level):
    """log2 of what an entry of this level covers, in bytes."""
    return 12 + 9 * (3 - level)


def kind(entry, level):
    """empty, marker, table, block, page or bad."""
    if entry & 1 == 0:
        if entry == 0:
            return "empty"
        return "marker" if entry & 0b110 == 0b100 else "bad"
    is_table_or_page = entry & 2 != 0
    if level == 3:
        return "page" if is_table_or_page else "bad"
    if is_table_or_page:
        return "table"
    if level == 0 or entry & ADDRESS & ((1 << shift(level)) - 1):
        return "bad"
    return "block"


def address(entry):
    """The physical address in a table, block or page entry."""
    return entry & ADDRESS


def words(entry, level, forced):
    """The entry for a person; `forced` tells whether FEAT_S2FWB is in use."""
    what = kind(entry, level)
    if what == "marker":
        return f"marker: {WORKS[entry >> 4 & 3]}, ticket {entry >> 16:#x}"
    if what == "table":
        return f"table at {address(entry):#x}"
    if what in ("block", "page"):
        return f"{what} at {address(entry):#x}: {attributes(entry, forced)}"
    return what if what == "empty" else f"bad: {entry:#018x}"


def attributes(entry, forced):
    """What a leaf allows, and its marks."""
    memory = entry >> 2 & 0xF
    names = MEMORY_FORCED if forced else MEMORY
    rights = [name for bit, name in ((6, "read"), (7, "write")) if entry >> bit & 1]
    rights.append(EXECUTE[entry >> 53 & 3])
    marks = [name for bit, name in ((10, "accessed"), (51, "DBM")) + SOFTWARE if entry >> bit & 1]
    return ", ".join([names.get(memory, f"MemAttr {memory:#x}")] + rights + marks)
