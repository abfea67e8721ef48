//! What is typed at the console: most of it for a guest, and commands for the hypervisor.
//!
//! A command is Ctrl-A and a letter. Ctrl-A twice is one Ctrl-A for the guest.

/// Ctrl-A.
const PREFIX: u8 = 0x01;

/// Something the hypervisor is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Say what commands there are.
    Help,
    /// Show statistics.
    Statistics,
    /// Let the next machine have what is typed.
    Next,
    /// Switch off.
    Quit,
}

/// The commands, with what they do as shown to a person.
pub const COMMANDS: [(u8, Command, &str); 4] = [
    (b'h', Command::Help, "this list"),
    (b's', Command::Statistics, "statistics"),
    (b'n', Command::Next, "type to the next machine"),
    (b'q', Command::Quit, "switch the hypervisor off"),
];

/// What comes of a byte that was typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// It is for the guest.
    Guest(u8),
    /// It completes a command. One that there is not asks for help.
    Command(Command),
    /// It is the first half of a command.
    Nothing,
}

/// The keyboard, between one byte and the next.
#[derive(Debug)]
pub struct Keys {
    prefixed: bool,
}

impl Keys {
    /// At the start.
    pub const fn new() -> Self {
        Self { prefixed: false }
    }

    /// Takes the next byte.
    pub fn take(&mut self, byte: u8) -> Input {
        if !core::mem::take(&mut self.prefixed) {
            self.prefixed = byte == PREFIX;
            return if self.prefixed {
                Input::Nothing
            } else {
                Input::Guest(byte)
            };
        }
        if byte == PREFIX {
            return Input::Guest(PREFIX);
        }
        let known = COMMANDS.iter().find(|(letter, ..)| *letter == byte);
        Input::Command(known.map_or(Command::Help, |&(_, command, _)| command))
    }
}

impl Default for Keys {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_command_is_the_guests() {
        let mut keys = Keys::new();
        let mut type_in = |text: &[u8]| text.iter().map(|&byte| keys.take(byte)).collect();
        let inputs: Vec<Input> = type_in(b"h\x01sq\x01\x01\x01?h");
        assert_eq!(
            inputs,
            [
                Input::Guest(b'h'),
                Input::Nothing,
                Input::Command(Command::Statistics),
                Input::Guest(b'q'),
                Input::Nothing,
                Input::Guest(PREFIX),
                Input::Nothing,
                Input::Command(Command::Help),
                Input::Guest(b'h'),
            ]
        );
    }

    #[test]
    fn every_letter_has_its_command() {
        for (letter, command, _) in COMMANDS {
            let mut keys = Keys::new();
            assert_eq!(keys.take(PREFIX), Input::Nothing);
            assert_eq!(keys.take(letter), Input::Command(command));
        }
    }
}
