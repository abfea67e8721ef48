//! The console: lines to the PL011, from any CPU, and what is typed there.
//!
//! What is to be sent is put into one queue, in order, and the UART is given what it takes at once;
//! when it is full, a thread goes on. So nobody waits for a slow line with the lock held, and who
//! speaks pays for what the UART takes. What has been put there keeps its order, and none is lost:
//! - a guest has no more than one piece of a line in the queue: before it adds to it, its vCPU
//!   waits for that to be sent, with no lock held ([`has_room`]). So the queue has room for all
//!   guests, and none delays others by more than such a piece of its own;
//! - the thread that sends traces waits likewise, for its last frame;
//! - everyone else, who may hold locks, does not wait unless the queue is full. What guests cause
//!   of that is limited (`vm::ratelimit`) and left out while more than half of the queue waits, or
//!   slows down nobody but who wants it (`trace=replay`).
//!
//! One lock, held for a line or less at a time, the last in the lock order: nothing is locked while
//! it is held. Its holder runs with interrupts masked, as all of EL2 does. A failing CPU takes the
//! console away for good ([`seize`]), and who switches the machine off sends what there is first
//! ([`flush`]).

use core::fmt;
use core::mem;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bootargs::MAX_VMS;
use mux::lines::Piece;
use mux::output::layout::Layout;
use mux::output::{self, Pace, Queue, Text};
use platform::board::Uart;
use platform::timer;
use platform::uart::{Console, Received};
use spin::{Mutex, MutexGuard, Once};
use trace::frame::{BEGIN, END};

use crate::board;
use crate::el2::mmu::mmu_is_on;

/// How long a failing CPU waits for the line that another CPU is writing, in milliseconds.
const PATIENCE_MS: u64 = 200;
/// How often a second it is looked whether the UART has room: often enough for the 16 bytes of its
/// FIFO to last.
const LOOKS_PER_SECOND: u64 = 2000;
/// Bytes that can wait: more than a piece of each guest, and what the hypervisor says meanwhile.
const QUEUE: usize = 64 << 10;

static SCREEN: Mutex<Screen> = Mutex::new(Screen {
    line: None,
    queue: Queue::new(),
    layout: Layout::new(),
});

/// The console, and where it is in a line.
struct Screen {
    line: Option<Line>,
    queue: Queue<QUEUE>,
    layout: Layout,
}

/// The UART, as fast as it is, or slower.
struct Line {
    console: Console,
    pace: Option<Pace>,
}

impl output::Line for Line {
    fn take(&mut self, byte: u8) -> bool {
        let Some(pace) = self.pace.as_mut() else {
            return self.console.try_write_byte(byte);
        };
        let room = pace.take(timer::now());
        if room {
            // A paced line is slower than the UART, so this does not wait long, if at all.
            self.console.write_byte(byte);
        }
        room
    }
}

/// How many bytes have been sent so far; as in the queue, to be looked at without the lock.
static SENT: AtomicU64 = AtomicU64::new(0);
/// Whether more than half of the queue waits to be sent; to be looked at without the lock, too.
static IS_BEHIND: AtomicBool = AtomicBool::new(false);
/// Where in the queue ends what each guest has put there last.
static ENDS: [AtomicU64; MAX_VMS] = [const { AtomicU64::new(0) }; MAX_VMS];
/// Where the last frame of a trace ends.
static FRAMES_END: AtomicU64 = AtomicU64::new(0);
/// Wakes the thread that sends what is left.
static WAKE_SENDER: Once<fn()> = Once::new();
/// A CPU has failed, and has the console for itself.
static SEIZED: AtomicBool = AtomicBool::new(false);

/// The UART's address for [`seize`]; zero until known. Stored and loaded plainly, which is allowed
/// before the MMU is on.
static REGISTERS: AtomicU64 = AtomicU64::new(0);

/// Says where the console is, while the MMU is off: failures can be reported from here on.
pub(crate) fn announce(uart: &Uart) {
    REGISTERS.store(uart.registers.base, Ordering::Relaxed);
}

/// Opens the console for lines. To be called once, with the MMU on.
pub(crate) fn open(uart: &Uart) {
    // SAFETY: EL2's tables map the UART as a device, and this is the only lasting user.
    let console = unsafe { Console::new(uart.registers.base) };
    SCREEN.lock().line = console.map(|console| Line {
        console,
        pace: None,
    });
}

/// Sends no faster than `baud` bits a second from now on.
pub(crate) fn slow_down(baud: u32) {
    if let Some(line) = SCREEN.lock().line.as_mut() {
        line.pace = Some(Pace::new(baud.into(), timer::frequency()));
    }
}

/// Has `wake` called whenever something is left that the UART did not take at once: what it wakes
/// calls [`send_backlog`] until that is sent. Without it, what is left goes with what is said next.
pub(crate) fn wake_when_behind(wake: fn()) {
    WAKE_SENDER.call_once(|| wake);
}

/// Gives the UART what it takes of what is left; says whether that was all.
pub(crate) fn send_backlog() -> bool {
    SCREEN.lock().send()
}

/// When the UART may have room again, in ticks: a thread that waits for that sleeps until then.
pub(crate) fn next_look() -> u64 {
    timer::now() + timer::frequency() / LOOKS_PER_SECOND
}

/// Lets the console's interrupt come when something is typed, or does not: then what is typed waits
/// on the line.
pub(crate) fn listen(listens: bool) {
    if let Some(line) = SCREEN.lock().line.as_mut() {
        line.console.listen(listens);
    }
}

/// What was typed next, if anything.
pub(crate) fn read() -> Option<Received> {
    SCREEN.lock().line.as_mut()?.console.read()
}

/// Whether guest `vm` may print: what it printed before is sent.
#[inline]
pub(crate) fn has_room(vm: usize) -> bool {
    ENDS.get(vm).is_none_or(is_sent)
}

/// Whether the last frame is sent.
pub(crate) fn has_room_for_frames() -> bool {
    is_sent(&FRAMES_END)
}

/// Whether so much waits to be sent that who says more should leave that out, if it can.
pub(crate) fn is_behind() -> bool {
    IS_BEHIND.load(Ordering::Relaxed)
}

#[inline]
fn is_sent(end: &AtomicU64) -> bool {
    SENT.load(Ordering::Relaxed) >= end.load(Ordering::Relaxed)
}

/// Has `speak` put something into the queue, and sends what the UART takes of it. Nothing once a
/// CPU has failed.
fn say(speak: impl FnOnce(&mut Screen)) {
    if SEIZED.load(Ordering::Relaxed) {
        return;
    }
    let mut screen = SCREEN.lock();
    speak(&mut screen);
    let sent = screen.send();
    drop(screen);
    if !sent && let Some(wake) = WAKE_SENDER.get() {
        wake();
    }
}

/// Sends all that was said, for the thread that is about to switch the machine off: nobody else
/// says anything after that, so that nothing is cut.
pub(crate) fn flush() {
    while !SEIZED.load(Ordering::Relaxed) {
        let mut screen = SCREEN.lock();
        if screen.send() {
            screen.line.iter().for_each(|line| line.console.drain());
            return mem::forget(screen);
        }
    }
}

/// Switches the machine off, when all that was said has been sent.
pub(crate) fn switch_off() -> ! {
    line(format_args!("tessera: off"));
    flush();
    board::conduit().system_off()
}

/// Prints a line. Before [`open`] it is lost.
pub(crate) fn line(text: fmt::Arguments<'_>) {
    say(|screen| screen.write(|layout, out| layout.line(text, out)));
}

/// Sends a frame of trace events: its text, which has no control characters, as an escape sequence
/// that terminals take in and do not show. No guest can forge one, since theirs are shown as text.
pub(crate) fn frame(text: &[u8]) {
    say(|screen| {
        for &byte in BEGIN.iter().chain(text).chain(END) {
            screen.put(byte);
        }
        FRAMES_END.store(screen.queue.end(), Ordering::Relaxed);
    });
}

/// Prints a piece of a line that guest `vm` wrote.
pub(crate) fn guest_piece(vm: usize, piece: Piece<'_>) {
    say(|screen| {
        screen.write(|layout, out| layout.piece(vm, piece, out));
        screen.ends_here(vm);
    });
}

/// Prints a byte that guest `vm` wrote, as it is.
pub(crate) fn guest_byte(vm: usize, byte: u8) {
    say(|screen| {
        screen.write(|layout, out| layout.before_byte(vm, byte, out));
        screen.put(byte);
        screen.ends_here(vm);
    });
}

impl Screen {
    /// Has `write` write to the queue, as the layout wants it.
    fn write(
        &mut self,
        write: impl FnOnce(&mut Layout, &mut Text<'_, Line, QUEUE>) -> fmt::Result,
    ) {
        if let Some(line) = self.line.as_mut() {
            let queue = &mut self.queue;
            // Writing to the queue does not fail.
            let _ = write(&mut self.layout, &mut Text { queue, line });
        }
    }

    fn put(&mut self, byte: u8) {
        if let Some(line) = self.line.as_mut() {
            self.queue.put(byte, line);
        }
    }

    /// Notes that what guest `vm` has said so far ends here.
    fn ends_here(&self, vm: usize) {
        if let Some(end) = ENDS.get(vm) {
            end.store(self.queue.end(), Ordering::Relaxed);
        }
    }

    /// Gives the UART what it takes; says whether that was all.
    fn send(&mut self) -> bool {
        let all = self.line.as_mut().is_none_or(|line| self.queue.send(line));
        SENT.store(self.queue.sent(), Ordering::Relaxed);
        IS_BEHIND.store(self.queue.is_behind(), Ordering::Relaxed);
        all
    }
}

/// Takes the console away from everyone, for a CPU's last words; `None` if its place is not known.
///
/// A line that another CPU is writing is waited for, a while, and what was said before is sent. The
/// lock is never given back, so no other CPU prints afterwards.
pub(crate) fn seize() -> Option<Console> {
    if mmu_is_on() {
        SEIZED.store(true, Ordering::Relaxed);
        if let Some(mut screen) = lock_patiently() {
            if let Some(line) = screen.line.as_mut() {
                line.pace = None;
            }
            while !screen.send() {
                core::hint::spin_loop();
            }
            mem::forget(screen);
        }
    }
    // SAFETY: The registers are mapped as a device, or the MMU is off. Other users are shut out by
    // the lock, or their last line gets mixed with this one, which harms nothing but that line.
    let mut console = unsafe { Console::new(REGISTERS.load(Ordering::Relaxed)) }?;
    if FRAMES_END.load(Ordering::Relaxed) != 0 {
        // A frame that was cut would take in, and hide, what comes now.
        END.iter().for_each(|&byte| console.write_byte(byte));
    }
    Some(console)
}

/// The lock, unless its holder does not give it back: that CPU may have failed, too, or be this
/// one.
fn lock_patiently() -> Option<MutexGuard<'static, Screen>> {
    let deadline = timer::now() + timer::frequency() * PATIENCE_MS / 1000;
    while timer::now() < deadline {
        let guard = SCREEN.try_lock();
        if guard.is_some() {
            return guard;
        }
    }
    None
}
