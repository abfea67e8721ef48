//! The UART's registers, FIFOs and interrupts, as a driver meets them.

use super::*;

impl Pl011 {
    fn interrupt(&self) -> bool {
        self.shown().interrupt()
    }
}

#[test]
fn what_is_shown_is_what_is_read() {
    let mut uart = Pl011::new();
    uart.write(IMSC, !0);
    uart.write(DR, 0);
    for lcr_h in [0, FIFO_ENABLE] {
        uart.write(LCR_H, lcr_h);
        uart.receive(0);
        let shown = Shown::from_bits(uart.shown().bits());
        for offset in (0..FRAME_SIZE).filter(|&offset| offset != DR) {
            if let Some(value) = shown.read(offset) {
                assert_eq!(value, uart.read(offset), "{offset:#x}");
            }
        }
        assert_eq!(shown.read(RIS), Some(TRANSMIT | RECEIVE | TIMEOUT));
        assert_eq!(shown.read(IMSC), Some(0x7ff));
        assert_eq!(shown.read(MIS), shown.read(RIS));
        assert_eq!(shown.read(DR), None);
        uart.write(IMSC, 0);
        assert_eq!(uart.shown().read(MIS), Some(0));
        uart.write(IMSC, !0);
    }
    assert_eq!(uart.shown().read(FR), Some(FLAG_TRANSMIT_EMPTY));
}

#[test]
fn what_is_written_is_sent() {
    let mut uart = Pl011::new();
    assert_eq!(uart.write(DR, 0x141), Some(b'A'));
    assert_eq!(uart.write(CR, 0x301), None);
    assert_eq!(uart.read(FR), 0x90);
}

#[test]
fn it_is_a_pl011() {
    let mut uart = Pl011::new();
    let id: Vec<u32> = (0xfe0..0x1000).step_by(4).map(|at| uart.read(at)).collect();
    assert_eq!(id, [0x11, 0x10, 0x34, 0, 0x0d, 0xf0, 0x05, 0xb1]);
    assert_eq!(uart.read(0xfe1), 0);
    uart.write(IBRD, 0x1_0001);
    assert_eq!(uart.read(IBRD), 1);
    assert_eq!(uart.read(0x80), 0);
}

#[test]
fn registers_of_the_line_keep_the_bits_that_they_have() {
    let mut uart = Pl011::new();
    for (register, reset, bits) in [
        (ILPR, 0, 0xff),
        (IBRD, 0, 0xffff),
        (FBRD, 0, 0x3f),
        (LCR_H, 0, 0xff),
        (CR, 0x300, 0xff87),
        (IFLS, 0x12, 0x3f),
        (IMSC, 0, 0x7ff),
        (DMACR, 0, 0x7),
    ] {
        assert_eq!(uart.read(register), reset, "{register:#x}");
        uart.write(register, !0);
        assert_eq!(uart.read(register), bits, "{register:#x}");
        uart.write(register, 0);
        assert_eq!(uart.read(register), 0, "{register:#x}");
    }
}

#[test]
fn sending_raises_the_transmit_interrupt_until_it_is_cleared() {
    let mut uart = Pl011::new();
    uart.write(IMSC, TRANSMIT);
    assert!(!uart.interrupt());
    uart.write(DR, 0);
    assert_eq!((uart.read(RIS), uart.interrupt()), (TRANSMIT, true));
    uart.write(ICR, RECEIVE | TIMEOUT);
    assert!(uart.interrupt());
    uart.write(IMSC, RECEIVE);
    assert!(!uart.interrupt());
    uart.write(IMSC, TRANSMIT);
    uart.write(ICR, TRANSMIT);
    assert!(!uart.interrupt());
}

#[test]
fn what_is_received_is_read_in_turn() {
    let mut uart = Pl011::new();
    uart.write(IMSC, TIMEOUT);
    uart.receive(b'a');
    uart.receive(b'b');
    assert!(uart.interrupt());
    assert_eq!(uart.read(FR), FLAG_TRANSMIT_EMPTY | FLAG_RECEIVE_FULL);
    uart.write(LCR_H, FIFO_ENABLE);
    assert_eq!(uart.read(FR), FLAG_TRANSMIT_EMPTY);
    assert_eq!([uart.read(DR), uart.read(DR)], [b'a'.into(), b'b'.into()]);
    assert!(!uart.interrupt());
    assert_eq!(uart.read(FR), FLAG_TRANSMIT_EMPTY | FLAG_RECEIVE_EMPTY);
    assert_eq!(uart.read(DR), 0);
}

#[test]
fn the_receive_interrupt_comes_at_its_level() {
    for (select, level) in [(0, 4), (1, 8), (2, 16), (3, 24), (4, 28)] {
        let mut uart = Pl011::new();
        uart.write(LCR_H, FIFO_ENABLE);
        uart.write(IFLS, select << 3);
        for _ in 1..level {
            uart.receive(0);
        }
        assert_eq!(uart.read(RIS), TIMEOUT, "before {level}");
        uart.receive(0);
        assert_eq!(uart.read(RIS), TIMEOUT | RECEIVE, "at {level}");
        uart.read(DR);
        assert_eq!(uart.read(RIS), TIMEOUT, "below {level}");
    }
}

#[test]
fn the_receive_fifo_is_full_at_its_depth() {
    for (control, depth) in [(0, 1), (FIFO_ENABLE, 32)] {
        let mut uart = Pl011::new();
        uart.write(LCR_H, control);
        let is_full = |uart: &mut Pl011| uart.read(FR) & FLAG_RECEIVE_FULL != 0;
        (1..depth).for_each(|_| uart.receive(0));
        assert!(!is_full(&mut uart));
        uart.receive(0);
        assert!(is_full(&mut uart));
    }
}

#[test]
fn who_reads_one_byte_at_each_interrupt_gets_them_all() {
    for control in [0, FIFO_ENABLE] {
        let mut uart = Pl011::new();
        uart.write(LCR_H, control);
        uart.write(IMSC, RECEIVE | TIMEOUT);
        (0..100).for_each(|byte| uart.receive(byte));
        for byte in 0..100 {
            assert!(uart.interrupt(), "before byte {byte}");
            uart.write(ICR, RECEIVE | TIMEOUT);
            assert!(!uart.interrupt());
            assert_eq!(uart.read(DR), byte);
        }
        assert!(!uart.interrupt());
    }
}

#[test]
fn what_is_sent_comes_back_in_loop_back() {
    let mut uart = Pl011::new();
    uart.write(CR, 0x301 | LOOP_BACK);
    assert_eq!(uart.write(DR, b'x'.into()), None);
    assert_eq!(uart.read(RIS) & (TRANSMIT | RECEIVE), TRANSMIT | RECEIVE);
    assert_eq!(uart.read(DR), b'x'.into());
    uart.write(CR, 0x301);
    assert_eq!(uart.write(DR, b'y'.into()), Some(b'y'));
    assert_ne!(uart.read(FR) & FLAG_RECEIVE_EMPTY, 0);
}

#[test]
fn what_comes_back_can_be_too_much() {
    let mut uart = Pl011::new();
    uart.write(CR, 0x301 | LOOP_BACK);
    uart.write(LCR_H, FIFO_ENABLE);
    (0..33).for_each(|byte| assert_eq!(uart.write(DR, byte), None));
    assert_eq!(uart.read(RSR), STATUS_OVERRUN);
    assert_eq!(uart.read(DR), DATA_OVERRUN);
    (1..32).for_each(|byte| assert_eq!(uart.read(DR), byte));
    assert_ne!(uart.read(FR) & FLAG_RECEIVE_EMPTY, 0);
}

#[test]
fn too_much_is_lost_and_the_guest_is_told() {
    let mut uart = Pl011::new();
    uart.write(IMSC, OVERRUN);
    let fill = |uart: &mut Pl011| (0..QUEUE_LENGTH).for_each(|byte| uart.receive(byte as u8));
    fill(&mut uart);
    assert!(!uart.has_room() && !uart.interrupt());
    assert_eq!(uart.read(RSR), 0);
    uart.receive(b'x');
    assert_eq!((uart.read(RSR), uart.interrupt()), (STATUS_OVERRUN, true));
    assert_eq!(uart.read(RIS) & OVERRUN, OVERRUN);
    // The first byte that is read after that says so, and no other.
    assert_eq!(uart.read(DR), DATA_OVERRUN);
    for byte in 1..QUEUE_LENGTH {
        assert_eq!(uart.read(DR), (byte as u8).into());
    }
    assert_ne!(uart.read(FR) & FLAG_RECEIVE_EMPTY, 0);
    // RSR and the interrupt stay until they are cleared.
    assert_eq!(uart.read(RSR), STATUS_OVERRUN);
    uart.write(RSR, 0);
    assert_eq!((uart.read(RSR), uart.interrupt()), (0, true));
    uart.write(ICR, OVERRUN);
    assert!(!uart.interrupt());
    fill(&mut uart);
    assert_eq!((uart.read(DR), uart.read(RSR)), (0, 0));
}

#[test]
fn what_is_lost_on_the_way_is_told_with_the_next_byte() {
    let mut uart = Pl011::new();
    uart.lose();
    assert_eq!((uart.read(DR), uart.read(RSR)), (0, STATUS_OVERRUN));
    uart.receive(b'a');
    assert_eq!(uart.read(DR), u32::from(b'a') | DATA_OVERRUN);
}

#[test]
fn more_is_wanted_when_half_is_read() {
    let mut uart = Pl011::new();
    assert!(uart.has_room() && uart.wants_more());
    (0..QUEUE_LENGTH).for_each(|_| uart.receive(0));
    let read = (1..).find(|_| {
        uart.read(DR);
        uart.wants_more()
    });
    assert_eq!(read, Some(QUEUE_LENGTH / 2));
}

#[test]
fn a_reset_takes_what_is_in_the_fifo() {
    let mut uart = Pl011::new();
    uart.write(LCR_H, FIFO_ENABLE);
    uart.write(IMSC, RECEIVE);
    (0..100).for_each(|byte| uart.receive(byte));
    uart.lose();
    uart.reset();
    assert_eq!(
        (uart.read(IMSC), uart.read(LCR_H), uart.read(RSR)),
        (0, 0, 0)
    );
    assert_eq!(uart.read(RIS), RECEIVE | TIMEOUT);
    assert_eq!(uart.read(DR), FIFO_DEPTH as u32);
    assert_eq!(uart.drop_input(), 100 - FIFO_DEPTH - 1);
    assert_eq!((uart.read(RIS), uart.drop_input()), (0, 0));
    assert_ne!(uart.read(FR) & FLAG_RECEIVE_EMPTY, 0);
}
