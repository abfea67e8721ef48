//! What keys mean: to the view, or to the guest as the bytes that a terminal would send.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

/// What the user wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// To leave.
    Quit,
    /// To see the next VM.
    NextVm,
    /// The picture to stand still, or to go on.
    Pause,
    /// To type to the guest.
    Type,
    /// To type no more.
    StopTyping,
    /// These bytes to go over the console.
    Send(Vec<u8>),
    /// Nothing that is known.
    Nothing,
}

/// What the hypervisor's console takes for a request: Ctrl-A, and a letter.
const REQUEST: u8 = 1;

/// What a key means.
pub(super) fn action(key: KeyEvent, typing: bool) -> Action {
    if key.kind == KeyEventKind::Release {
        return Action::Nothing;
    }
    if typing {
        return match key.code {
            KeyCode::Esc => Action::StopTyping,
            _ => bytes(key).map_or(Action::Nothing, Action::Send),
        };
    }
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    match key.code {
        KeyCode::Char('c') if control => Action::Quit,
        KeyCode::Char('q') | KeyCode::Esc => Action::Quit,
        KeyCode::Char('n') | KeyCode::Tab => Action::NextVm,
        KeyCode::Char('p' | ' ') => Action::Pause,
        KeyCode::Char('t') | KeyCode::Enter => Action::Type,
        KeyCode::Char('s') => Action::Send(vec![REQUEST, b's']),
        _ => Action::Nothing,
    }
}

fn bytes(key: KeyEvent) -> Option<Vec<u8>> {
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    Some(match key.code {
        KeyCode::Char(c @ '@'..='~') if control => vec![c as u8 & 0x1f],
        KeyCode::Char(c) => c.to_string().into_bytes(),
        KeyCode::Enter => vec![b'\r'],
        KeyCode::Tab => vec![b'\t'],
        KeyCode::Backspace => vec![0x7f],
        KeyCode::Delete => b"\x1b[3~".to_vec(),
        KeyCode::Up => b"\x1b[A".to_vec(),
        KeyCode::Down => b"\x1b[B".to_vec(),
        KeyCode::Right => b"\x1b[C".to_vec(),
        KeyCode::Left => b"\x1b[D".to_vec(),
        KeyCode::Home => b"\x1b[H".to_vec(),
        KeyCode::End => b"\x1b[F".to_vec(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(code: KeyCode) -> KeyEvent {
        KeyEvent::new(code, KeyModifiers::NONE)
    }

    #[test]
    fn keys_are_the_views_until_one_types() {
        let q = key(KeyCode::Char('q'));
        assert_eq!(action(q, false), Action::Quit);
        assert_eq!(action(q, true), Action::Send(b"q".to_vec()));
        assert_eq!(action(key(KeyCode::Esc), true), Action::StopTyping);
        let statistics = Action::Send(b"\x01s".to_vec());
        assert_eq!(action(key(KeyCode::Char('s')), false), statistics);
    }

    #[test]
    fn the_guest_gets_what_a_terminal_sends() {
        let control = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(action(control, true), Action::Send(vec![3]));
        assert_eq!(action(control, false), Action::Quit);
        let arrow = Action::Send(b"\x1b[A".to_vec());
        assert_eq!(action(key(KeyCode::Up), true), arrow);
        let umlaut = Action::Send("ö".as_bytes().to_vec());
        assert_eq!(action(key(KeyCode::Char('ö')), true), umlaut);
        assert_eq!(action(key(KeyCode::F(1)), true), Action::Nothing);
    }
}
