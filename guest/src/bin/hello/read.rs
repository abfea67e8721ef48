//! Reads slowly what is typed, and looks whether all of it comes.

use guest::{console, println, time};

/// How many bytes are read between two pauses.
const AT_ONCE: u64 = 100;

/// Reads `bytes` digits, with pauses of `every` milliseconds. They must be 0, 1, 2 to 9, again and
/// again, of which none is lost.
pub(crate) fn run(bytes: u64, every: u64) {
    println!("read: ready");
    for index in 0..bytes {
        if index % AT_ONCE == 0 {
            let until = time::now() + every * time::frequency() / 1000;
            while time::now() < until {}
        }
        let expected = b'0' + (index % 10) as u8;
        match console::read_byte() {
            Ok(byte) => assert!(byte == expected, "byte {index} is {byte:#x}"),
            Err(error) => panic!("byte {index}: {error}"),
        }
    }
    println!("read: {bytes} bytes");
}
