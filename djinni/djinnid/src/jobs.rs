//! Pending calls of administrators: each waits for answers of workers or children, up to a deadline.

use std::time::{Duration, Instant};

use djinni_api::{MasterName, host as wire};
use djinni_plan::lifecycle::ConnectionId;
use djinni_plan::places::Places;
use djinni_plan::supervision::Phase;

use crate::error;
use crate::link::Answer;
use crate::masters::{Masters, Outcome};
use crate::reference::reference;

/// A call of an administrator that has no reply yet.
pub struct Job {
    /// The connection that waits.
    pub connection: ConnectionId,
    /// The answer that it waits for.
    pub kind: JobKind,
    /// Deadline of the answer.
    pub deadline: Instant,
}

/// A question to a worker: its number, or the error of asking.
pub type Asked = (MasterName, error::Result<u64>);

/// The answer that a pending call waits for.
pub enum JobKind {
    /// The states of masters; `one`: as a reply to `Status`.
    States { asked: Vec<Asked>, one: bool },
    /// All workers have read the configuration again.
    Reload(Vec<Asked>),
    /// A master is up.
    Start(MasterName),
    /// A master is absent.
    Drop { name: MasterName, number: u64, force: bool },
}

impl JobKind {
    /// Time limit of the job. It is short where no worker may delay the reply.
    pub fn patience(&self) -> Duration {
        match self {
            JobKind::States { .. } => Duration::from_secs(1),
            JobKind::Reload(_) => Duration::from_secs(2),
            JobKind::Drop { force: false, .. } => Duration::from_secs(2),
            JobKind::Drop { force: true, .. } => Duration::from_secs(30),
            JobKind::Start(_) => Duration::from_secs(130),
        }
    }
}

type Reply = Result<wire::Reply, wire::Refusal>;

impl Job {
    /// The reply, if the job is finished or its time is over.
    pub fn reply(&self, masters: &Masters, places: &Places) -> Option<Reply> {
        let late = Instant::now() >= self.deadline;
        let settled = |asked: &[Asked]| late || asked.iter().all(|asked| settled(masters, asked));
        match &self.kind {
            JobKind::States { asked, one } if settled(asked) => {
                Some(Ok(states(masters, places, asked, *one)))
            }
            JobKind::Reload(asked) if settled(asked) => {
                asked.iter().for_each(|asked| note_reload(masters, asked));
                Some(Ok(wire::Reply::Reloaded {}))
            }
            JobKind::States { .. } | JobKind::Reload(_) => None,
            JobKind::Start(name) => started(masters, places, name, late),
            JobKind::Drop { name, number, force } => dropped(masters, name, *number, *force, late),
        }
    }
}

/// Whether no further answer about one master can be expected soon.
fn settled(masters: &Masters, (name, asked): &Asked) -> bool {
    match (masters.phase(name), asked) {
        (Phase::Absent | Phase::Resting { .. }, _) => true,
        // It was not up at the time of the call: no worker was asked.
        (Phase::Up { .. }, Err(_)) => true,
        (Phase::Starting { .. } | Phase::Falling, _) => false,
        (Phase::Up { .. }, Ok(number)) => {
            !matches!(masters.outcome(name, *number), Outcome::Waiting)
        }
    }
}

fn states(masters: &Masters, places: &Places, asked: &[Asked], one: bool) -> wire::Reply {
    let state = |asked: &Asked| state(masters, places, asked);
    match asked.first() {
        Some(first) if one => wire::Reply::Status(wire::Status { master: state(first) }),
        _ => wire::Reply::Masters(wire::Masters { masters: asked.iter().map(state).collect() }),
    }
}

fn state(masters: &Masters, places: &Places, (name, asked): &Asked) -> wire::MasterState {
    let (running, slaves) = masters.status(name).unwrap_or_default();
    let answered = |number| matches!(masters.outcome(name, number), Outcome::Answered(_));
    let is_silent = asked.as_ref().is_ok_and(|number| !answered(*number));
    let state = match masters.phase(name) {
        Phase::Absent => "absent",
        Phase::Starting { .. } => "starting",
        Phase::Resting { .. } => "restarting",
        Phase::Falling => "dropping",
        Phase::Up { .. } if is_silent => "does not answer",
        Phase::Up { .. } if running => "running",
        Phase::Up { .. } => "ready",
    };
    wire::MasterState {
        name: name.clone(),
        state: state.into(),
        socket: places.master_socket(name).display().to_string(),
        namespace: places.pin(name).display().to_string(),
        slaves,
    }
}

fn note_reload(masters: &Masters, (name, asked): &Asked) {
    let why = match asked {
        Err(error) => error.to_string(),
        Ok(number) => match masters.outcome(name, *number) {
            Outcome::Answered(Answer::Failed(sentence)) => sentence,
            Outcome::Answered(_) | Outcome::Gone => return,
            Outcome::Waiting => "its worker is busy; it reloads as soon as it answers".into(),
        },
    };
    tracing::error!(master = %name, "not reloaded: {why}");
}

fn started(masters: &Masters, places: &Places, name: &MasterName, late: bool) -> Option<Reply> {
    let trouble = || masters.trouble(name).unwrap_or("it was dropped meanwhile");
    match masters.phase(name) {
        Phase::Up { .. } => Some(Ok(wire::Reply::NewMaster(wire::NewMaster {
            socket: places.master_socket(name).display().to_string(),
            namespace: places.pin(name).display().to_string(),
        }))),
        Phase::Absent | Phase::Resting { .. } => Some(Err(fault(name, trouble()))),
        Phase::Starting { .. } | Phase::Falling => {
            late.then(|| Err(fault(name, "it is not up yet: see the log, and 'djinni list'")))
        }
    }
}

fn dropped(
    masters: &Masters,
    name: &MasterName,
    number: u64,
    force: bool,
    late: bool,
) -> Option<Reply> {
    if masters.phase(name) == Phase::Absent {
        return Some(Ok(wire::Reply::Dropped {}));
    }
    let unfinished = match force {
        true => "it is still being taken down: see the log, then try again",
        false => "its worker does not answer yet: see 'djinni list', or use --force",
    };
    match masters.outcome(name, number) {
        Outcome::Answered(Answer::Running(holds)) => {
            Some(Err(wire::Refusal::MasterRunning { name: name.clone(), holds }))
        }
        Outcome::Answered(Answer::Failed(sentence)) => Some(Err(fault(name, &sentence))),
        Outcome::Answered(other) => Some(Err(fault(name, &format!("unexpected answer {other:?}")))),
        Outcome::Gone => Some(Err(fault(name, "it was started again meanwhile"))),
        Outcome::Waiting => late.then(|| Err(fault(name, unfinished))),
    }
}

/// Logs a fault under a reference and returns the refusal with it.
fn fault(name: &MasterName, sentence: &str) -> wire::Refusal {
    let reference = reference();
    tracing::error!(master = %name, %reference, "fault: {sentence}");
    wire::Refusal::Fault { reference, step: sentence.to_owned() }
}
