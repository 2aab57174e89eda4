//! References of faults.

/// Eight random hexadecimal digits: the client is told them, and the log has the fault under them.
pub fn reference() -> String {
    let mut bytes = [0u8; 4];
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
