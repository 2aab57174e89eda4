//! References of faults.

/// Eight random hexadecimal digits, which identify a fault to the client and in the log.
pub fn reference() -> String {
    let mut bytes = [0u8; 4];
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
