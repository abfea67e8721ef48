//! The console: lines to the PL011, from any CPU, and what is typed there.
//!
//! One lock, held for a line or less at a time, the last in the lock order: nothing is locked while it is
//! held. Its holder runs with interrupts masked, as all of EL2 does. A failing CPU takes the console
//! away for good ([`seize`]).

use core::fmt::{self, Write};
use core::mem;
use core::sync::atomic::{AtomicU64, Ordering};

use hyp::vm::lines::Piece;
use platform::board::Uart;
use platform::timer;
use platform::uart::Console;
use spin::Mutex;
use trace::frame::{BEGIN, END};

use crate::el2::fatal::mmu_is_on;
use crate::machine::tracing;

/// How long a failing CPU waits for the line that another CPU is writing, in milliseconds.
const PATIENCE_MS: u64 = 200;

static SCREEN: Mutex<Screen> = Mutex::new(Screen {
    console: None,
    unfinished: None,
});

/// The console, and where it is in a line.
struct Screen {
    console: Option<Console>,
    /// The guest of whose line the start was printed last.
    unfinished: Option<usize>,
}

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
    SCREEN.lock().console = unsafe { Console::new(uart.registers.base) };
}

/// Lets the console's interrupt come when something is typed.
pub(crate) fn listen() {
    if let Some(console) = SCREEN.lock().console.as_mut() {
        console.listen();
    }
}

/// What was typed next, if anything.
pub(crate) fn read_byte() -> Option<u8> {
    SCREEN.lock().console.as_mut()?.read_byte()
}

/// Prints a line. Before [`open`] it is lost.
pub(crate) fn line(text: fmt::Arguments<'_>) {
    let mut screen = SCREEN.lock();
    screen.end_line();
    screen.write(format_args!("{text}\n"));
}

/// Sends a frame of trace events: its text, which has no control characters, as an escape sequence
/// that terminals take in and do not show. No guest can forge one, since theirs are shown as text.
pub(crate) fn frame(text: &[u8]) {
    if let Some(console) = SCREEN.lock().console.as_mut() {
        for &byte in BEGIN.iter().chain(text).chain(END) {
            console.write_byte(byte);
        }
    }
}

/// Prints a piece of a line that guest `vm` wrote.
///
/// Control characters are shown as escapes, so that a guest cannot forge the hypervisor's lines.
pub(crate) fn guest_piece(vm: usize, piece: Piece<'_>) {
    let mut screen = SCREEN.lock();
    if screen.unfinished != Some(vm) {
        screen.end_line();
        screen.write(format_args!("vm{vm}| "));
    }
    let end = if piece.ends { "\n" } else { "" };
    screen.write(format_args!("{}{end}", Printable(piece.text)));
    screen.unfinished = (!piece.ends).then_some(vm);
}

/// Prints a byte that guest `vm` wrote, as it is.
pub(crate) fn guest_byte(vm: usize, byte: u8) {
    let mut screen = SCREEN.lock();
    if screen.unfinished.is_some_and(|other| other != vm) {
        screen.end_line();
    }
    if let Some(console) = screen.console.as_mut() {
        console.write_byte(byte);
    }
    screen.unfinished = (byte != b'\n').then_some(vm);
}

impl Screen {
    /// Ends a line of which only the start has been printed.
    fn end_line(&mut self) {
        if self.unfinished.take().is_some() {
            self.write(format_args!("\n"));
        }
    }

    fn write(&mut self, text: fmt::Arguments<'_>) {
        if let Some(console) = self.console.as_mut() {
            // The console's writer does not fail.
            let _ = console.write_fmt(text);
        }
    }
}

/// Text whose control characters, tabs aside, are shown as escapes. What is no UTF-8 is replaced.
struct Printable<'a>(&'a [u8]);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for character in chunk.valid().chars() {
                if character.is_control() && character != '\t' {
                    write!(f, "{}", character.escape_default())?;
                } else {
                    f.write_char(character)?;
                }
            }
            if !chunk.invalid().is_empty() {
                f.write_char(char::REPLACEMENT_CHARACTER)?;
            }
        }
        Ok(())
    }
}

/// Takes the console away from everyone, for a CPU's last words; `None` if its place is not known.
///
/// A line that another CPU is writing is waited for, a while. The lock is never given back, so no
/// other CPU prints afterwards.
pub(crate) fn seize() -> Option<Console> {
    if mmu_is_on() {
        let deadline = timer::now() + timer::frequency() * PATIENCE_MS / 1000;
        while timer::now() < deadline {
            if let Some(guard) = SCREEN.try_lock() {
                mem::forget(guard);
                break;
            }
        }
    }
    // SAFETY: The registers are mapped as a device, or the MMU is off. Other users are shut out by the
    // lock, or their last line gets mixed with this one, which harms nothing but that line.
    let mut console = unsafe { Console::new(REGISTERS.load(Ordering::Relaxed)) }?;
    if tracing::is_on() {
        // A frame that was cut would take in, and hide, what comes now.
        END.iter().for_each(|&byte| console.write_byte(byte));
    }
    Some(console)
}
