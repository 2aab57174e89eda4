//! Log lines on standard error; with the level in front where journald reads it (`sd-daemon(3)`).

use std::io::Write;
use std::sync::OnceLock;

/// Writes one line. `level` as in `syslog(3)`: 3 error, 4 warning, 6 information.
pub fn line(level: u8, text: &str) {
    static JOURNAL: OnceLock<bool> = OnceLock::new();
    let journal = *JOURNAL.get_or_init(|| std::env::var_os("JOURNAL_STREAM").is_some());
    let prefix = if journal { format!("<{level}>") } else { "djinnid: ".into() };
    // One write a line, so that lines of several processes do not mix; a closed log is no reason to stop.
    let text = djinni_api::text::printable(text);
    let _ = std::io::stderr().write_all(format!("{prefix}{text}\n").as_bytes());
}

macro_rules! error { ($($part:tt)*) => { $crate::log::line(3, &format!($($part)*)) } }
macro_rules! warning { ($($part:tt)*) => { $crate::log::line(4, &format!($($part)*)) } }
macro_rules! info { ($($part:tt)*) => { $crate::log::line(6, &format!($($part)*)) } }
pub(crate) use {error, info, warning};

/// A short reference for a fault: what the client is told and what the log has the story under.
pub fn reference() -> String {
    let mut bytes = [0u8; 4];
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
