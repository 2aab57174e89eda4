//! A relay between threads: a caller, a slave, and the events that end it early.
#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::*;
use rustix::event::{EventfdFlags, eventfd};

struct Scene {
    caller: UnixStream,
    slave: UnixStream,
    hold: OwnedFd,
    stop: OwnedFd,
    relay: JoinHandle<End>,
}

fn event() -> OwnedFd {
    eventfd(0, EventfdFlags::CLOEXEC).unwrap()
}

fn raise(event: &OwnedFd) {
    rustix::io::write(event, &1u64.to_ne_bytes()).unwrap();
}

fn scene() -> Scene {
    let (caller, near_caller) = UnixStream::pair().unwrap();
    let (slave, near_slave) = UnixStream::pair().unwrap();
    for stream in [&caller, &slave] {
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    }
    let (hold, stop) = (event(), event());
    let (their_hold, their_stop) = (hold.try_clone().unwrap(), stop.try_clone().unwrap());
    let relay = thread::spawn(move || {
        let ends = Ends {
            caller: &near_caller,
            slave: &near_slave,
            hold: their_hold.as_fd(),
            stop: their_stop.as_fd(),
        };
        relay(&ends, FrameReader::new()).unwrap()
    });
    Scene { caller, slave, hold, stop, relay }
}

fn to_slave(message: &ToSlave<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    message.encode(&mut bytes).unwrap();
    bytes
}

fn from_slave(message: &FromSlave<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    message.encode(&mut bytes).unwrap();
    bytes
}

#[test]
fn frames_pass_both_ways_and_the_last_word_is_held_back() {
    let mut scene = scene();
    let stdin = to_slave(&ToSlave::Stdin(b"in"));
    // Cut in the middle of a frame: only the whole frame is forwarded.
    scene.caller.write_all(&stdin[..3]).unwrap();
    scene.caller.write_all(&stdin[3..]).unwrap();
    let mut heard = vec![0; stdin.len()];
    scene.slave.read_exact(&mut heard).unwrap();
    assert_eq!(heard, stdin);

    let stdout = from_slave(&FromSlave::Stdout(b"out"));
    let exited = from_slave(&FromSlave::Exited { status: 3 });
    scene.slave.write_all(&[&stdout[..], &exited].concat()).unwrap();
    drop(scene.slave);
    let mut heard = Vec::new();
    scene.caller.read_to_end(&mut heard).unwrap();
    assert_eq!(heard, stdout);
    assert_eq!(scene.relay.join().unwrap(), End::Slave { last_word: exited });
}

#[test]
fn a_caller_that_does_not_read_holds_the_slave_up_and_nothing_is_lost() {
    const FRAMES: usize = 200;
    let mut scene = scene();
    let payload = vec![7; 60_000];
    let frame = from_slave(&FromSlave::Stdout(&payload));
    let expected = frame.len() * FRAMES;
    let mut slave = scene.slave;
    let writer = thread::spawn(move || {
        for _ in 0..FRAMES {
            slave.write_all(&frame).unwrap();
        }
    });
    thread::sleep(Duration::from_millis(100));
    assert!(!writer.is_finished(), "twelve megabytes are not held anywhere");
    let mut heard = 0;
    let mut buffer = vec![0; 1 << 16];
    while heard < expected {
        heard += scene.caller.read(&mut buffer).unwrap();
    }
    writer.join().unwrap();
    assert_eq!(scene.relay.join().unwrap(), End::Slave { last_word: vec![] });
}

#[test]
fn a_caller_that_goes_ends_it() {
    let scene = scene();
    drop(scene.caller);
    assert_eq!(scene.relay.join().unwrap(), End::Caller);
}

#[test]
fn a_caller_that_talks_nonsense_ends_it() {
    for nonsense in [&b"?\0\0\0\0"[..], b"i\xff\xff\xff\xff"] {
        let mut scene = scene();
        scene.caller.write_all(nonsense).unwrap();
        assert_eq!(scene.relay.join().unwrap(), End::Caller);
    }
}

#[test]
fn a_slave_that_talks_nonsense_ends_it_with_the_reason() {
    let mut scene = scene();
    let mut bytes = Vec::new();
    Frame { kind: b'R', payload: b"{}" }.encode(&mut bytes).unwrap();
    scene.slave.write_all(&bytes).unwrap();
    let End::Nonsense(reason) = scene.relay.join().unwrap() else { panic!("taken for sense") };
    assert_eq!(reason, "frame of unknown kind 'R'");
}

#[test]
fn the_djinni_and_the_master_end_it() {
    let taken = scene();
    raise(&taken.hold);
    assert_eq!(taken.relay.join().unwrap(), End::Taken);
    let stopped = scene();
    raise(&stopped.stop);
    assert_eq!(stopped.relay.join().unwrap(), End::Stopped);
}

#[test]
fn a_frame_that_has_begun_is_finished_before_the_master_speaks() {
    let mut scene = scene();
    let payload = vec![7; 60_000];
    let frame = from_slave(&FromSlave::Stdout(&payload));
    // More than the socket buffers hold, so that the relay stops in the middle of a frame.
    let (mut slave, many) = (scene.slave, frame.repeat(100));
    let writer = thread::spawn(move || slave.write_all(&many));
    thread::sleep(Duration::from_millis(100));
    raise(&scene.hold);
    let mut heard = Vec::new();
    scene.caller.read_to_end(&mut heard).unwrap();
    assert_eq!(scene.relay.join().unwrap(), End::Taken);
    assert_eq!(heard.len() % frame.len(), 0, "whole frames");
    assert!(writer.join().unwrap().is_err(), "the slave's end is closed");
}

/// Result of one turn with `caller` and `slave` in these states and a master that stops soon.
fn one_turn(
    caller: &UnixStream,
    slave: &UnixStream,
    inward: &mut Flow,
    outward: &mut Flow,
) -> Option<End> {
    let (hold, stop) = (event(), event());
    let later = stop.try_clone().unwrap();
    let raiser = thread::spawn(move || {
        thread::sleep(Duration::from_millis(200));
        raise(&later);
    });
    let ends = Ends { caller, slave, hold: hold.as_fd(), stop: stop.as_fd() };
    let end = turn(&ends, inward, outward).unwrap();
    raiser.join().unwrap();
    end
}

/// A pair whose first end takes no more bytes.
fn full_pair() -> (UnixStream, UnixStream) {
    let (near, far) = UnixStream::pair().unwrap();
    near.set_nonblocking(true).unwrap();
    while (&near).write(&[0; 4096]).is_ok() {}
    (near, far)
}

fn flows(inward: &[u8], outward: &[u8]) -> (Flow, Flow) {
    let flow = |waiting: &[u8]| Flow { waiting: waiting.to_vec(), ..Flow::new(FrameReader::new()) };
    (flow(inward), flow(outward))
}

#[test]
fn a_slave_that_has_ended_is_not_asked_while_its_caller_does_not_read() {
    let (near_caller, _caller) = full_pair();
    let (near_slave, slave) = UnixStream::pair().unwrap();
    drop(slave);
    let (mut inward, mut outward) = flows(b"", b"waits");
    let end = one_turn(&near_caller, &near_slave, &mut inward, &mut outward);
    assert_eq!(end, Some(End::Stopped), "it slept until then");
}

#[test]
fn a_caller_that_goes_while_its_slave_does_not_read_ends_it() {
    let (near_caller, caller) = UnixStream::pair().unwrap();
    let (near_slave, _slave) = full_pair();
    drop(caller);
    let (mut inward, mut outward) = flows(b"waits", b"");
    let end = one_turn(&near_caller, &near_slave, &mut inward, &mut outward);
    assert_eq!(end, Some(End::Caller));
}
