//! All of it on a pseudo-terminal: this test program is run again on it, in the part of xtask.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::num::NonZero;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use std::{env, process, thread};

use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{Termios, tcgetattr};
use nix::unistd::Pid;

use trace_tools::example::{console, story};

const CONSOLE: &str = "TESSERA_TEST_CONSOLE";
const PATIENCE: Duration = Duration::from_secs(60);
const WINDOW: Winsize = Winsize {
    ws_row: 24,
    ws_col: 80,
    ws_xpixel: 0,
    ws_ypixel: 0,
};

fn cells(count: u16) -> NonZero<u16> {
    NonZero::new(count).expect("cells")
}

nix::ioctl_write_ptr_bad!(set_size, nix::libc::TIOCSWINSZ, Winsize);

/// Not a test by itself: what runs on the pseudo-terminal. `cat` is in QEMU's place, and what is
/// typed to the guest comes back.
#[test]
#[ignore = "run by the other tests"]
fn child() {
    let Ok(file) = env::var(CONSOLE) else { return };
    crate::interrupt::catch().expect("signals");
    let mut command = Command::new("sh");
    command.args(["-c", "cat \"$0\" -", &file]);
    let status = super::watch(command, None, None, None).expect("a run");
    process::exit(status.into());
}

struct Screen {
    child: Child,
    master: File,
    slave: OwnedFd,
    shown: Arc<Mutex<vt100::Parser>>,
    before: Termios,
}

impl Screen {
    /// A terminal of 80 by 24, on which the view of the story's console is.
    fn new(name: &str) -> Self {
        let pty = openpty(Some(&WINDOW), None).expect("a pseudo-terminal");
        let before = tcgetattr(&pty.slave).expect("its settings");
        let file = format!("tessera-top-{}-{name}", process::id());
        let file = env::temp_dir().join(file);
        fs::write(&file, console(&story())).expect("a file");
        let end = || Stdio::from(pty.slave.try_clone().expect("its end"));
        let child = Command::new("setsid")
            .arg("--ctty")
            .arg(env::current_exe().expect("this program"))
            .args(["--ignored", "--exact", "--nocapture"])
            .arg("top::tests::child")
            .env(CONSOLE, &file)
            .env("TERM", "xterm-256color")
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .expect("this program again");
        let master = File::from(pty.master);
        let shown = Arc::new(Mutex::new(vt100::Parser::new(cells(24), cells(80), 0)));
        let (mut reader, parser) = (master.try_clone().expect("its end"), shown.clone());
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut buffer) {
                parser.lock().expect("a screen").process(&buffer[..count]);
            }
        });
        Self {
            child,
            master,
            slave: pty.slave,
            shown,
            before,
        }
    }

    fn contents(&self) -> String {
        self.shown.lock().expect("a screen").screen().contents()
    }

    /// Waits until `seen` holds of the screen.
    fn wait(&self, what: &str, seen: impl Fn(&vt100::Screen) -> bool) {
        let start = Instant::now();
        while !seen(self.shown.lock().expect("a screen").screen()) {
            assert!(
                start.elapsed() < PATIENCE,
                "no {what} in\n{}",
                self.contents()
            );
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn wait_for(&self, text: &str) {
        self.wait(text, |screen| screen.contents().contains(text));
    }

    fn press(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).expect("keys");
    }

    /// Checks that the program ends so, and leaves the terminal as it was.
    fn assert_ends(mut self, status: i32) {
        let start = Instant::now();
        let ended = loop {
            if let Some(ended) = self.child.try_wait().expect("a status") {
                break ended;
            }
            assert!(
                start.elapsed() < PATIENCE,
                "it goes on:\n{}",
                self.contents()
            );
            thread::sleep(Duration::from_millis(20));
        };
        self.wait_for("Ended");
        assert_eq!(ended.code(), Some(status), "{}", self.contents());
        self.wait("plain screen", |screen| {
            !screen.alternate_screen() && !screen.hide_cursor()
        });
        assert_eq!(tcgetattr(&self.slave).expect("settings"), self.before);
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn q_leaves_and_the_terminal_is_as_before() {
    let mut screen = Screen::new("q");
    screen.wait_for("vm0: 8 MiB from 0x40000000");
    screen.wait("other screen", vt100::Screen::alternate_screen);
    screen.press("q");
    screen.assert_ends(0);
}

#[test]
fn it_follows_the_size_and_types_to_the_guest() {
    let mut screen = Screen::new("size");
    screen.wait_for("q  quit");
    let larger = Winsize {
        ws_row: 30,
        ws_col: 100,
        ..WINDOW
    };
    screen
        .shown
        .lock()
        .expect("a screen")
        .screen_mut()
        .set_size(cells(30), cells(100));
    // SAFETY: the descriptor is open, and the pointer is to a size that lives as long as the call.
    unsafe { set_size(screen.master.as_raw_fd(), &larger) }.expect("another size");
    screen.wait("corner at the right", |screen| {
        screen
            .contents()
            .lines()
            .any(|line| line.chars().count() == 100)
    });
    screen.press("t");
    screen.wait_for("stop typing");
    screen.press("quite\r");
    screen.wait_for("quite");
    screen.press("\u{1b}");
    screen.wait_for("q  quit");
    screen.press("\u{3}");
    screen.assert_ends(0);
}

#[test]
fn a_signal_leaves_the_terminal_as_before() {
    let screen = Screen::new("signal");
    screen.wait_for("vm0: 8 MiB from 0x40000000");
    let id = i32::try_from(screen.child.id()).expect("an id");
    kill(Pid::from_raw(id), Signal::SIGTERM).expect("a signal");
    screen.assert_ends(130);
}
