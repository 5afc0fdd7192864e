//! Draws charts as SVG paths. Pure.
//!
//! The drawing is stretched to the width of its place. So labels are not part of it: the template writes them beside it.

use std::time::Duration;

/// The width of one bar with its gap, and of the gap, in units of the drawing.
const STEP: usize = 10;
const GAP: usize = 2;
/// The height of the drawing.
pub(super) const HEIGHT: f64 = 100.0;

/// The lines of an axis of durations, about a factor of ten apart, with their labels.
const DURATIONS: [(f64, &str); 11] = [
    (0.001, "1 ms"),
    (0.01, "10 ms"),
    (0.1, "100 ms"),
    (1.0, "1 s"),
    (10.0, "10 s"),
    (60.0, "1 min"),
    (600.0, "10 min"),
    (3_600.0, "1 h"),
    (36_000.0, "10 h"),
    (345_600.0, "4 days"),
    (3_456_000.0, "40 days"),
];

/// A chart, ready for its template.
pub(super) struct Chart {
    pub(super) id: &'static str,
    pub(super) title: &'static str,
    /// What the axis counts.
    pub(super) unit: String,
    /// The chart in one sentence, for those who do not see it.
    pub(super) description: String,
    pub(super) legend: Vec<LegendKey>,
    /// The labels of the horizontal lines, from top to bottom.
    pub(super) lines: Vec<String>,
    /// The path of the horizontal lines.
    pub(super) grid: String,
    pub(super) shapes: Vec<Shape>,
    /// What each bar says when a pointer rests on it.
    pub(super) hints: Vec<BarHint>,
    pub(super) width: usize,
}

/// A colour of a chart, and the sum of what has it.
pub(super) struct LegendKey {
    pub(super) class: &'static str,
    pub(super) name: &'static str,
    pub(super) value: String,
}

/// A path of one colour.
pub(super) struct Shape {
    pub(super) class: &'static str,
    pub(super) path: String,
}

/// The text that a chart shows when the pointer is over one bar.
pub(super) struct BarHint {
    pub(super) x: usize,
    pub(super) text: String,
}

/// Returns the width of a drawing of this many bars.
pub(super) fn width(bars: usize) -> usize {
    bars * STEP
}

/// Returns the left end of a bar.
pub(super) fn left(bar: usize) -> usize {
    bar * STEP
}

/// Returns the path of horizontal lines, with the same distance between each two.
pub(super) fn grid(lines: usize, width: usize) -> String {
    let gaps = lines.saturating_sub(1).max(1);
    let mut path = String::new();
    for line in 0..lines {
        let y = HEIGHT * whole(line) / whole(gaps);
        push(&mut path, format_args!("M0 {y:.1}H{width}"));
    }
    path
}

/// Draws bars on top of `below`. `top` is the value at the upper edge.
pub(super) fn bars(values: &[u64], below: &[u64], top: u64) -> String {
    let mut path = String::new();
    for (bar, value) in values.iter().enumerate() {
        if *value == 0 {
            continue;
        }
        let from = below.get(bar).copied().unwrap_or(0);
        let (height, base) = (share(*value, top), HEIGHT - share(from, top));
        // something that happened is seen, however little it is
        let height = height.max(1.5);
        let (x, wide) = (left(bar) + GAP / 2, STEP - GAP);
        push(
            &mut path,
            format_args!("M{x} {base:.2}v-{height:.2}h{wide}v{height:.2}z"),
        );
    }
    path
}

/// The vertical axis of a chart of durations, which is logarithmic. The distance between two lines is the same, and each is about ten times the one below.
pub(super) struct DurationAxis {
    first: usize,
    last: usize,
}

impl DurationAxis {
    /// Returns the axis that has room for all of these durations. None if there are none.
    pub(super) fn of(durations: impl IntoIterator<Item = Duration>) -> Option<Self> {
        let places = durations.into_iter().map(place).collect::<Vec<_>>();
        let lowest = places.iter().copied().reduce(f64::min)?;
        let highest = places.iter().copied().reduce(f64::max)?;
        let first = DURATIONS.iter().enumerate().rev();
        let first = first
            .map(|(line, _)| line)
            .find(|line| whole(*line) <= lowest)
            .unwrap_or(0)
            .min(DURATIONS.len() - 2);
        let last = (0..DURATIONS.len()).find(|line| whole(*line) >= highest);
        let last = last.unwrap_or(DURATIONS.len() - 1).max(first + 1);
        Some(Self { first, last })
    }

    /// Returns the labels of its lines, from top to bottom.
    pub(super) fn lines(&self) -> Vec<String> {
        let lines = DURATIONS.iter().take(self.last + 1).skip(self.first).rev();
        lines.map(|(_, label)| (*label).to_owned()).collect()
    }

    fn y(&self, duration: Duration) -> f64 {
        let lines = whole(self.last - self.first);
        let y = (place(duration) - whole(self.first)) / lines;
        HEIGHT * (1.0 - y.clamp(0.0, 1.0))
    }

    /// Draws a line over the bars that have a value.
    pub(super) fn line(&self, values: &[Option<Duration>]) -> String {
        let mut path = String::new();
        for (bar, value) in values.iter().enumerate() {
            if let Some(value) = value {
                let (y, from, to) = (self.y(*value), left(bar), left(bar + 1));
                push(&mut path, format_args!("M{from} {y:.2}H{to}"));
            }
        }
        path
    }

    /// Draws the area between two lines over the bars that have both values.
    pub(super) fn band(&self, low: &[Option<Duration>], high: &[Option<Duration>]) -> String {
        let mut path = String::new();
        for (bar, values) in low.iter().zip(high).enumerate() {
            if let (Some(low), Some(high)) = values {
                let (x, low, high) = (left(bar), self.y(*low), self.y(*high));
                push(
                    &mut path,
                    format_args!("M{x} {low:.2}V{high:.2}h{STEP}V{low:.2}z"),
                );
            }
        }
        path
    }
}

/// Returns the place of a duration among the lines: 2.5 is between the third and the fourth.
fn place(duration: Duration) -> f64 {
    let seconds = duration.as_secs_f64();
    for (line, pair) in DURATIONS.windows(2).enumerate() {
        if let [(low, _), (high, _)] = pair
            && seconds < *high
        {
            let part = (seconds / low).ln() / (high / low).ln();
            return whole(line) + part.max(0.0);
        }
    }
    whole(DURATIONS.len() - 1)
}

/// The upper edges of charts: even numbers up to 8, then these tens, hundreds and so on.
const SMALL_TOPS: [u64; 4] = [2, 4, 6, 8];
const TOPS: [u64; 10] = [10, 12, 16, 20, 24, 30, 40, 50, 60, 80];

/// Returns a round even number that is not below the value: the upper edge of a chart.
pub(super) fn round_top(value: u64) -> u64 {
    let small = SMALL_TOPS.iter().copied();
    let units = (0..18).map(|power| 10_u64.pow(power));
    let large = units.flat_map(|unit| TOPS.map(|top| top.saturating_mul(unit)));
    small
        .chain(large)
        .find(|top| value <= *top)
        .unwrap_or(value)
}

/// Writes a number with commas between thousands.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Writes a duration in the unit that suits it.
pub(super) fn lasted(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    match seconds {
        ..0.9995 => format!("{:.0} ms", seconds * 1000.0),
        ..9.95 => format!("{seconds:.1} s"),
        ..100.0 => format!("{seconds:.0} s"),
        ..5_700.0 => format!("{:.0} min", seconds / 60.0),
        ..172_800.0 => format!("{:.0} h", seconds / 3_600.0),
        _ => format!("{:.0} days", seconds / 86_400.0),
    }
}

fn push(path: &mut String, part: std::fmt::Arguments<'_>) {
    path.push_str(&part.to_string());
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
fn share(value: u64, top: u64) -> f64 {
    HEIGHT * value as f64 / top.max(1) as f64
}

#[expect(clippy::cast_precision_loss, reason = "a chart has few lines")]
fn whole(number: usize) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_stand_on_those_below_and_nothing_is_drawn_for_nothing() {
        assert_eq!(bars(&[0, 0], &[], 10), "");
        assert_eq!(bars(&[5, 0], &[], 10), "M1 100.00v-50.00h8v50.00z");
        assert_eq!(bars(&[0, 5], &[9, 5], 10), "M11 50.00v-50.00h8v50.00z");
        // one of a million is seen
        assert_eq!(bars(&[1], &[], 1_000_000), "M1 100.00v-1.50h8v1.50z");
    }

    #[test]
    fn the_upper_edge_is_a_round_even_number() {
        for (value, top) in [
            (0, 2),
            (3, 4),
            (7, 8),
            (11, 12),
            (41, 50),
            (61, 80),
            (2_100, 2_400),
        ] {
            assert_eq!(round_top(value), top, "{value}");
        }
        for value in (1..100_000).chain([1_000_000_000_000_007]) {
            let top = round_top(value);
            assert!(
                top >= value && top.is_multiple_of(2) && top / 2 <= value,
                "{value}: {top}"
            );
        }
        assert_eq!(round_top(u64::MAX), u64::MAX);
    }

    #[test]
    fn an_axis_of_durations_has_room_for_all_and_lines_at_the_same_distance() {
        let seconds = Duration::from_secs_f64;
        let axis = DurationAxis::of([seconds(0.3), seconds(45.0)]).unwrap();
        assert_eq!(axis.lines(), ["1 min", "10 s", "1 s", "100 ms"]);
        let y = |at: f64| format!("{:.1}", axis.y(seconds(at)));
        assert_eq!(
            [y(60.0), y(10.0), y(1.0), y(0.1)],
            ["0.0", "33.3", "66.7", "100.0"]
        );
        assert_eq!(axis.line(&[None, Some(seconds(1.0))]), "M10 66.67H20");
        let band = axis.band(&[Some(seconds(1.0))], &[Some(seconds(10.0))]);
        assert_eq!(band, "M0 66.67V33.33h10V66.67z");
        assert!(DurationAxis::of([]).is_none());
        for odd in [Duration::ZERO, seconds(1.0), Duration::MAX] {
            let axis = DurationAxis::of([odd]).unwrap();
            assert!(axis.lines().len() >= 2, "{odd:?}");
            assert!((0.0..=HEIGHT).contains(&axis.y(odd)), "{odd:?}");
        }
    }

    #[test]
    fn numbers_and_durations_are_written_for_people() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(grouped(number), text);
        }
        for (millis, text) in [
            (0, "0 ms"),
            (999, "999 ms"),
            (1_000, "1.0 s"),
            (9_940, "9.9 s"),
            (59_000, "59 s"),
            (600_000, "10 min"),
            (7_200_000, "2 h"),
            (864_000_000, "10 days"),
        ] {
            assert_eq!(lasted(Duration::from_millis(millis)), text);
        }
    }
}
