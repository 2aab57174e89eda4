//! Limits of messages. A peer that exceeds one is refused.

/// Bytes in front of each payload: the kind and the length.
pub const HEADER_BYTES: usize = 5;
/// Largest payload of one frame, in bytes.
pub const PAYLOAD_LIMIT_BYTES: usize = 64 * 1024;
/// Largest frame, header and payload, in bytes.
pub const FRAME_LIMIT_BYTES: usize = HEADER_BYTES + PAYLOAD_LIMIT_BYTES;

/// Longest file name, in bytes (NAME_MAX of Linux).
pub const NAME_LIMIT_BYTES: usize = 255;
/// Most components of the path of a result.
pub const PATH_LIMIT_COMPONENTS: usize = 8;

/// Most arguments of a command, its name included.
pub const ARGUMENTS_LIMIT: usize = 4096;
/// Most variables that a caller may set.
pub const VARIABLES_LIMIT: usize = 64;

/// Most bytes of standard input that a master sends ahead of what the command has read.
pub const STDIN_WINDOW_BYTES: usize = 256 * 1024;

/// Most files that go into a slave with one command.
pub const INPUT_LIMIT_FILES: u32 = 500;
/// Most bytes that go into a slave with one command.
pub const INPUT_LIMIT_BYTES: u64 = 8 << 30;
/// Most files that come out of a slave after one command.
pub const OUTPUT_LIMIT_FILES: u32 = 10_000;
/// Most bytes that come out of a slave after one command.
pub const OUTPUT_LIMIT_BYTES: u64 = 8 << 30;

/// Longest sentence of a refusal or a failure that is printed, in characters.
pub const SENTENCE_LIMIT_CHARS: usize = 2000;
/// Longest command line that is kept for messages about the user of a slave, in characters.
pub const COMMAND_LINE_LIMIT_CHARS: usize = 1000;
