//! The picture: a state, drawn in as much room as the terminal has.

use plural::count;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{Block, Borders, Paragraph};

use super::map::{Cell, Map};
use super::state::State;
use crate::kind::Kind;
use crate::space::{PAGE, REGION};

/// What the user has chosen.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct View {
    /// Which of the VMs is shown, by its place in the list.
    pub(super) vm: usize,
    /// The picture stands still.
    pub(super) paused: bool,
    /// Keys go to the guest.
    pub(super) typing: bool,
}

/// Bars that fill a cell from below, by eighths.
const EIGHTHS: [&str; 9] = [" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"];
/// The rows of the counts, with their title.
const RATES: u16 = Kind::COUNT as u16 + 1;
/// The width of the counts without their course.
const RATES_WIDTH: u16 = 44;

/// The lines of title, gauges and keys.
const FIXED: u16 = 3;
/// Of the height without those: the most that the lists of CPUs and vCPUs make the counts' part
/// grow to, and of the rest what the map gets if it can fill it.
const LISTS: (u16, u16) = (2, 5);
const MAP: (u16, u16) = (3, 5);

/// Draws the state.
pub(super) fn draw(frame: &mut Frame<'_>, state: &State, view: &View) {
    let vms = state.vms();
    let vm = vms.get(view.vm % vms.len().max(1)).copied();
    let [title, map, gauges, rates, console, keys] = areas(frame.area(), state, vm);
    frame.render_widget(title_line(state, view), title);
    draw_map(frame, state, vm, map);
    frame.render_widget(gauge_line(state, vm), gauges);
    let [left, right] =
        Layout::horizontal([Constraint::Length(RATES_WIDTH), Constraint::Fill(1)]).areas(rates);
    draw_rates(frame, state, left);
    draw_threads(frame, state, right);
    draw_console(frame, state, console);
    frame.render_widget(key_line(state, view), keys);
}

/// Where the parts are. Map and lists get no more lines than they fill; the console has the rest.
fn areas(area: Rect, state: &State, vm: Option<u8>) -> [Rect; 6] {
    let share = |height: u16, (part, of): (u16, u16)| {
        (u32::from(height) * u32::from(part) / u32::from(of)) as u16
    };
    let height = area.height.saturating_sub(FIXED);
    let threads = state.cpus.len() + state.vcpus.len() + 1;
    let threads = u16::try_from(threads).unwrap_or(u16::MAX);
    let rates = threads.min(share(height, LISTS)).max(RATES);
    let most = share(height.saturating_sub(rates), MAP);
    let filled = vm.and_then(|vm| state.spaces.get(&vm)).map(|space| {
        let rows = most.saturating_sub(1);
        let cells = Map::new(space, room(area.width, rows)).len();
        // With the line above it.
        1 + cells
            .div_ceil(usize::from(area.width).max(1))
            .min(rows.into()) as u16
    });
    Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(filled.unwrap_or(most)),
        Constraint::Length(1),
        Constraint::Length(rates),
        Constraint::Fill(1),
        Constraint::Length(1),
    ])
    .areas(area)
}

/// How many cells there is room for.
fn room(width: u16, height: u16) -> usize {
    usize::from(width).max(1) * usize::from(height)
}

/// A part of the picture: a line above it that says what it is.
fn titled(title: &'static str) -> Block<'static> {
    Block::new().borders(Borders::TOP).title(title)
}

fn title_line(state: &State, view: &View) -> Line<'static> {
    let mut spans = vec![" Tessera ".bold().reversed(), " ".into()];
    match &state.end {
        Some(end) => spans.push(format!("{end}  ").bold()),
        None if view.paused => spans.push("the picture is paused  ".bold()),
        None => {}
    }
    spans.push(
        format!(
            "{:.1} s  {}",
            state.seconds(),
            count(state.cpus.len(), "CPU", "CPUs")
        )
        .into(),
    );
    if state.lost() > 0 {
        let lost = format!("  {} events lost", grouped(state.lost()));
        spans.push(lost.fg(Color::Yellow));
    }
    Line::from(spans)
}

fn key_line(state: &State, view: &View) -> Line<'static> {
    let keys: &[(&str, &str)] = if state.end.is_some() {
        &[("q", "leave"), ("n", "next VM")]
    } else if view.typing {
        &[("Esc", "stop typing"), ("others", "go to the guest")]
    } else {
        &[
            ("q", "quit"),
            ("n", "next VM"),
            ("p", "pause"),
            ("t", "type to the guest"),
            ("s", "statistics"),
        ]
    };
    let spans = keys
        .iter()
        .flat_map(|(key, what)| [format!(" {key} ").reversed(), format!(" {what}  ").into()]);
    Line::from_iter(spans)
}

fn draw_map(frame: &mut Frame<'_>, state: &State, vm: Option<u8>, area: Rect) {
    let Some((vm, space)) = vm.and_then(|vm| Some((vm, state.spaces.get(&vm)?))) else {
        let text = "Nothing has been heard of a machine's memory yet.";
        return frame.render_widget(Paragraph::new(text).block(titled("")), area);
    };
    let block = titled("");
    let inner = block.inner(area);
    let width = usize::from(inner.width).max(1);
    let map = Map::new(space, room(inner.width, inner.height));
    let title = format!(
        " vm{vm}: {} from {:#x}, a cell is {} ",
        size(space.regions.len() as u64 * REGION),
        space.start(),
        size(map.cell_bytes())
    );
    let cells: Vec<Span<'_>> = map.cells().map(cell).collect();
    let lines = cells.chunks(width).map(|row| Line::from(row.to_vec()));
    let text = Text::from_iter(lines);
    let block = block.title(title.bold());
    frame.render_widget(Paragraph::new(text).block(block), area);
}

fn cell(cell: Cell) -> Span<'static> {
    match cell {
        Cell::Empty => Span::styled("·", Style::new().add_modifier(Modifier::DIM)),
        Cell::Pages(eighths) => EIGHTHS[usize::from(eighths.min(8))].fg(Color::Cyan),
        Cell::Block => "■".fg(Color::LightMagenta),
        Cell::Busy => "×".fg(Color::Yellow).bold(),
    }
}

fn gauge_line(state: &State, vm: Option<u8>) -> Line<'static> {
    let mut spans = Vec::new();
    if let Some(space) = vm.and_then(|vm| state.spaces.get(&vm)) {
        let all = (space.regions.len() as u64 * REGION).max(1);
        let (pages, blocks) = space.mapped();
        let part = |bytes| format!("{} ({} %)  ", size(bytes), bytes * 100 / all);
        spans.extend([
            " ▁▄█".fg(Color::Cyan),
            format!(" pages {}", part(pages)).into(),
            "■".fg(Color::LightMagenta),
            format!(" blocks {}", part(blocks)).into(),
            "×".fg(Color::Yellow).bold(),
            " at work".into(),
        ]);
    }
    if let Some((free, total)) = state.frames {
        let share = free * 100 / total.max(1);
        let free = size(free * PAGE);
        spans.push(format!("  free {free} ({share} %)").into());
    }
    Line::from(spans)
}

fn draw_rates(frame: &mut Frame<'_>, state: &State, area: Rect) {
    let block = titled(" a second, in all, lately ");
    let lines = Kind::ALL.map(|kind| {
        let course = course(&state.history(kind, 12));
        Line::from(vec![
            format!("{:<12}", kind.name()).into(),
            format!("{:>8} ", grouped(state.rate(kind))).bold(),
            format!("{:>9} ", grouped(state.counts[kind as usize])).into(),
            course.fg(Color::Cyan),
        ])
    });
    frame.render_widget(Paragraph::new(Text::from_iter(lines)).block(block), area);
}

/// Values as bars, the greatest a whole cell.
fn course(values: &[u64]) -> String {
    let most = values.iter().copied().max().unwrap_or(0).max(1);
    let bar = |value: &u64| EIGHTHS[(value * 8).div_ceil(most) as usize];
    values.iter().map(bar).collect()
}

fn draw_threads(frame: &mut Frame<'_>, state: &State, area: Rect) {
    let block = titled(" CPUs ");
    let cpus = state.cpus.iter().map(|(&number, cpu)| {
        let thread = state.thread_on(number);
        let thread = thread.map_or_else(|| "?".to_owned(), |thread| thread.to_string());
        Line::from(format!("cpu{number} {:>3} % {thread}", cpu.load))
    });
    let vcpus = state.vcpus.iter().map(|(&(vm, vcpu), seen)| {
        let rate = grouped(seen.rate);
        Line::from(format!(
            "vm{vm} vcpu{vcpu}: {rate} faults/s, cpu{}",
            seen.cpu
        ))
    });
    let text = Text::from_iter(cpus.chain(vcpus));
    frame.render_widget(Paragraph::new(text).block(block), area);
}

fn draw_console(frame: &mut Frame<'_>, state: &State, area: Rect) {
    let block = titled(" console ");
    let inner = block.inner(area);
    let partial = (!state.partial.is_empty()).then_some(&state.partial);
    let lines = state.console.iter().chain(partial);
    let from = lines
        .clone()
        .count()
        .saturating_sub(usize::from(inner.height));
    let text = Text::from_iter(lines.skip(from).map(|line| Line::from(printable(line))));
    frame.render_widget(Paragraph::new(text).block(block), area);
}

/// A line without what would move the cursor.
fn printable(line: &str) -> String {
    let printable = line.replace('\t', "    ");
    printable.chars().filter(|c| !c.is_control()).collect()
}

/// A number with its digits in groups of three.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn size(bytes: u64) -> String {
    match bytes {
        0..0x10_0000 => format!("{} KiB", bytes >> 10),
        0x10_0000..0x4000_0000 => format!("{} MiB", bytes >> 20),
        _ => format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30)),
    }
}
