//! `mach chain`, and every call with several sources. They are ordered by their requirements on each other, and
//! built in parallel, each by a child process of mach that sees the packages of its dependencies.
//!
//! ```text
//! plan ──► order ──► schedule ──► a child per source ──► its packages ──► a view for each that waits
//! (cells)  (pure)    (pure)       (events on a pipe)                      (hard links)
//! ```
//!
//! Architecture invariant: what a source sees follows from the order alone, never from which of the
//! others happens to be ready; so one at a time and side by side the same packages come out.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Instant;

use mach_core::distribution::Dist;
use mach_core::error::{Cause, Error};
use mach_core::options::Options;
use mach_core::rpm::evr::Capability;
use mach_core::text::Style;
use mach_roots::call::with_run;
use mach_roots::context::Context;
use mach_roots::pending;
use mach_run::area::{Area, Run};
use mach_run::interrupts;
use mach_run::progress::events::{self, Event};
use mach_run::progress::screen::Screen;
use mach_run::progress::{self, Mode};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::chain::child::{Call, Running};
use crate::chain::order::Order;
use crate::chain::schedule::{Outcome, Schedule, Start, State};
use crate::chain::table::Row;
use crate::rebuild::source_package::SourcePackage;

pub mod child;
pub mod order;
pub mod plan;
pub mod schedule;
mod table;
mod view;
pub mod yields;

const TICK_MS: i64 = 200;
const SOURCES_LIMIT: usize = 1000;

/// Builds `given`, in any order that they are given in. An error names all that failed.
pub fn run(area: &Area, dist: &Dist, call: &Call, given: &[SourcePackage]) -> Result<(), Error> {
    judge(given)?;
    with_run(area, dist, &call.options, "chain", |context| {
        let (order, yields) = ordered(context, &call.options, given)?;
        Driver::new(call, given, context.run, order, yields).drive()
    })
}

/// Refuses sources that cannot be built in any order.
fn judge(given: &[SourcePackage]) -> Result<(), Error> {
    let usage = |what: String, remedy: &str| Err(Error::new(Cause::Usage, what, remedy));
    if given.len() > SOURCES_LIMIT {
        let what = format!("{} sources are more than {SOURCES_LIMIT}", given.len());
        return usage(what, "build them in several calls");
    }
    let mut names: Vec<String> = given.iter().map(SourcePackage::package).collect();
    names.sort();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => usage(format!("{} was given twice", pair[0]), "give each source once"),
        None => Ok(()),
    }
}

fn ordered(
    context: &Context<'_>,
    options: &Options,
    given: &[SourcePackage],
) -> Result<(Order, Vec<Vec<Capability>>), Error> {
    let nodes = plan::nodes(context, options, given)?;
    let order = order::order(&nodes).map_err(|cycle| {
        let what = format!("these sources wait for each other: {cycle}");
        let remedy = "build one of them by itself first, with the dist's packages or with a \
                      conditional of its spec (--with, --without), and give the others what it yields";
        Error::new(Cause::Dependency, what, remedy)
    })?;
    let names: Vec<&str> = order.sequence.iter().map(|node| nodes[*node].name.as_str()).collect();
    context.progress.say(&format!("{} sources: {}", names.len(), names.join(", ")));
    Ok((order, nodes.into_iter().map(|node| node.provides).collect()))
}

/// A source that is being built.
struct Work {
    node: usize,
    running: Running,
    begun: Instant,
    is_reused: bool,
    /// Directory of its results.
    directory: Option<PathBuf>,
    failure: Option<Error>,
}

/// State of a running chain.
struct Driver<'a> {
    call: &'a Call,
    given: &'a [SourcePackage],
    run: &'a Run,
    order: Order,
    schedule: Schedule,
    rows: Vec<Row>,
    /// Expected packages of each source, as far as its spec tells.
    yields: Vec<Vec<Capability>>,
    /// The packages that each has yielded.
    packages: Vec<Vec<PathBuf>>,
    works: Vec<Work>,
    screen: Screen,
    /// A person looks at both outputs: the table says where results are, instead of a line for each.
    is_interactive: bool,
    begun: Instant,
    started: usize,
    first_failure: Option<Cause>,
}

impl<'a> Driver<'a> {
    fn new(
        call: &'a Call,
        given: &'a [SourcePackage],
        run: &'a Run,
        order: Order,
        yields: Vec<Vec<Capability>>,
    ) -> Self {
        let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let jobs = call.options.jobs.unwrap_or_else(cores);
        let screen = Screen::of_standard_error();
        let is_human = matches!(progress::mode(), Mode::Human | Mode::Debug);
        let is_interactive = is_human && screen.on_terminal() && std::io::stdout().is_terminal();
        Self {
            call,
            given,
            run,
            schedule: Schedule::new(order.clone(), jobs, call.options.go_on),
            order,
            rows: given.iter().map(|given| Row::new(&given.package())).collect(),
            yields,
            packages: vec![Vec::new(); given.len()],
            works: Vec::new(),
            screen,
            is_interactive,
            begun: Instant::now(),
            started: 0,
            first_failure: None,
        }
    }

    fn drive(mut self) -> Result<(), Error> {
        while !self.schedule.is_over() {
            for start in self.schedule.start() {
                self.start(&start)?;
            }
            self.wait()?;
            self.draw();
        }
        self.conclude()
    }

    fn start(&mut self, start: &Start) -> Result<(), Error> {
        let Start { node, sees } = start;
        let packages = sees.iter().flat_map(|earlier| &self.packages[*earlier]);
        let name = format!("view-{}", self.started);
        let view = view::of(self.run, &name, packages)?;
        let unseen = self.schedule.unseen(start);
        let coming = unseen.iter().flat_map(|other| {
            let name = self.rows[*other].name.as_str();
            self.yields[*other].iter().map(move |one| (name, one))
        });
        pending::write(&view, coming)?;
        let said = self.run.path.join(format!("said-{}", self.started));
        self.started += 1;
        let source = self.given[*node].word()?;
        let running = Running::start(self.call, &source, &view, said)?;
        let (node, begun) = (*node, Instant::now());
        self.rows[node] = Row { state: State::Running, ..Row::new(&self.given[node].package()) };
        self.works.push(Work {
            node,
            running,
            begun,
            is_reused: false,
            directory: None,
            failure: None,
        });
        self.tell(node);
        Ok(())
    }

    /// Waits for events, for a tick at most, and reads them.
    fn wait(&mut self) -> Result<(), Error> {
        let tick = Timespec { tv_sec: 0, tv_nsec: TICK_MS * 1_000_000 };
        let signals = interrupts::descriptor();
        let streams = self.works.iter().map(|work| work.running.stream()).chain(signals);
        let mut polled: Vec<PollFd<'_>> =
            streams.map(|stream| PollFd::from_borrowed_fd(stream, PollFlags::IN)).collect();
        let _ = poll(&mut polled, Some(&tick));
        let ready: Vec<bool> = polled.iter().map(|poll| !poll.revents().is_empty()).collect();
        if let Err(failure) = interrupts::check() {
            return Err(self.interrupted(failure));
        }
        // From the last: one that has ended leaves the list.
        for place in (0..self.works.len()).rev().filter(|place| ready[*place]) {
            match self.works[place].running.read() {
                Some(events) => events.into_iter().for_each(|event| self.take(place, event)),
                None => self.end(place),
            }
        }
        Ok(())
    }

    /// Ends the children; their unfinished work is not a failure.
    fn interrupted(&mut self, failure: Error) -> Error {
        self.screen.show(&[]);
        self.works.iter().for_each(|work| work.running.interrupt());
        for work in self.works.drain(..) {
            work.running.wait();
        }
        failure
    }

    fn take(&mut self, place: usize, event: Event) {
        let work = &mut self.works[place];
        let row = &mut self.rows[work.node];
        let mut forward = None;
        match event {
            Event::Start { .. } => {}
            Event::PhaseBegin { ref phase, .. } => {
                row.phase.clone_from(phase);
                (row.section, row.last) = (None, String::new());
                forward = Some(event);
            }
            Event::Line { ref section, ref line, .. } => {
                row.section.clone_from(section);
                row.last.clone_from(line);
                forward = Some(event);
            }
            Event::Result { ref subject, ref path } => {
                let path = PathBuf::from(path);
                if is_package(&path) {
                    self.packages[work.node].push(path.clone());
                }
                work.directory = path.parent().map(Path::to_owned);
                if !self.is_interactive {
                    progress::result(subject, &path);
                }
            }
            Event::Source { note, .. } => {
                work.is_reused = true;
                row.note = note;
            }
            Event::Failure { cause, what, details, remedy, .. } => {
                let cause = Cause::of_word(&cause).unwrap_or(Cause::Internal);
                work.failure = Some(Error { cause, what, details, remedy });
            }
            Event::Note { ref subject, ref text } => {
                if matches!(progress::mode(), Mode::Human | Mode::Debug) {
                    self.screen.say(&format!("{subject}: {text}"));
                }
                forward = Some(event);
            }
            Event::PhaseEnd { .. } => forward = Some(event),
        }
        if let (Mode::Json, Some(event)) = (progress::mode(), forward) {
            events::print(&event);
        }
    }

    /// A child has closed its stream: it has ended, or will at once.
    fn end(&mut self, place: usize) {
        let Work { node, running, begun, is_reused, directory, failure } = self.works.remove(place);
        let (ended_well, said) = running.wait();
        let failure = match (ended_well, failure) {
            (true, _) => None,
            (false, Some(failure)) => Some(failure),
            (false, None) => Some(self.died(node, said)),
        };
        let lacks_dependency =
            failure.as_ref().is_some_and(|failure| failure.cause == Cause::Dependency);
        let outcome = match &failure {
            Some(failure) if failure.cause == Cause::Architecture => Outcome::Excluded,
            Some(_) => Outcome::Failed { lacks_dependency },
            None if is_reused => Outcome::Reused,
            None => Outcome::Built,
        };
        self.schedule.ended(node, outcome);
        let state = self.schedule.states()[node];
        let row = &mut self.rows[node];
        (row.state, row.time) = (state, begun.elapsed());
        let place = match directory.filter(|_| self.is_interactive) {
            Some(directory) => format!(" in {}", directory.display()),
            None => String::new(),
        };
        if state != State::Built && state != State::Reused {
            self.packages[node].clear();
        }
        row.note = match (&failure, state) {
            (Some(_), State::Deferred) => "lacks something that others may yield".to_owned(),
            // Without the name, which stands before it.
            (Some(failure), State::Excluded) => match failure.what.split_once(" is ") {
                Some((_, why)) => why.to_owned(),
                None => failure.what.clone(),
            },
            (Some(failure), _) => failure.cause.as_str().to_owned(),
            (None, State::Reused) => std::mem::take(&mut row.note),
            (None, _) => format!("{} packages{}", self.packages[node].len(), place),
        };
        self.tell(node);
        if let (Some(failure), State::Failed) = (failure, state) {
            self.first_failure.get_or_insert(failure.cause);
            match progress::mode() {
                Mode::Json => events::print(&Event::of_source(&self.rows[node].name, &failure)),
                _ => progress::show_failure(&failure, &self.screen),
            }
        }
        self.skip();
    }

    fn died(&self, node: usize, said: Vec<String>) -> Error {
        let what = format!("{}: the mach that built it died", self.rows[node].name);
        let remedy = "was it killed, or was there no memory? call again: what was built is reused";
        Error::new(Cause::Internal, what, remedy).with_details(said)
    }

    /// Marks the rows of skipped sources.
    fn skip(&mut self) {
        for node in 0..self.rows.len() {
            let state = self.schedule.states()[node];
            if let State::Skipped(because) = state
                && self.rows[node].state != state
            {
                let needs = self.order.sees[node].contains(&because);
                let verb = if needs { "needs" } else { "not begun after the failure of" };
                let why = match self.rows[because].state {
                    State::Excluded => format!(", which is {}", self.rows[because].note),
                    _ => String::new(),
                };
                self.rows[node].state = state;
                self.rows[node].note = format!("{verb} {}{why}", self.rows[because].name);
                self.tell(node);
            }
        }
    }

    /// Tells of a source's new state: an event, or a line once it is over.
    fn tell(&self, node: usize) {
        let row = &self.rows[node];
        match progress::mode() {
            Mode::Json => events::print(&Event::Source {
                source: row.name.clone(),
                state: row.state.as_str().to_owned(),
                seconds: (!row.time.is_zero()).then_some(row.time.as_secs_f64()),
                note: row.note.clone(),
            }),
            Mode::Quiet => {}
            // On a terminal the table is there all the time.
            Mode::Human | Mode::Debug if self.screen.on_terminal() => {}
            Mode::Human | Mode::Debug => match row.state {
                State::Pending | State::Running => {}
                _ => self.screen.say(&table::line(row, &self.rows, usize::MAX, Style::PLAIN)),
            },
        }
    }

    fn draw(&mut self) {
        for work in &self.works {
            self.rows[work.node].time = work.begun.elapsed();
        }
        if !matches!(progress::mode(), Mode::Human | Mode::Debug) || !self.screen.on_terminal() {
            return;
        }
        let (columns, style) = (self.screen.columns(), self.screen.style());
        for node in 0..self.rows.len() {
            if self.rows[node].state == State::Pending {
                self.rows[node].note = self.awaited(node);
            }
        }
        let (elapsed, size) = (self.begun.elapsed(), (columns, self.screen.lines()));
        let sequence = &self.order.sequence;
        self.screen.show(&table::status(&self.rows, sequence, elapsed, size, style));
    }

    /// Names of the sources that a source still waits for.
    fn awaited(&self, node: usize) -> String {
        let states = self.schedule.states();
        let awaited = self.order.waits_for[node]
            .iter()
            .filter(|earlier| !matches!(states[**earlier], State::Built | State::Reused));
        let names: Vec<&str> = awaited.map(|earlier| self.rows[*earlier].name.as_str()).collect();
        if names.is_empty() { String::new() } else { format!("waits for {}", names.join(", ")) }
    }

    /// The table, and the failure that tells of all.
    fn conclude(self) -> Result<(), Error> {
        let Order { sequence, waits_for, .. } = &self.order;
        if matches!(progress::mode(), Mode::Human | Mode::Debug) {
            let (elapsed, style) = (self.begun.elapsed(), self.screen.style());
            let table = table::table(&self.rows, sequence, waits_for, elapsed, style);
            table.iter().for_each(|line| self.screen.say(line));
        }
        let Some(cause) = self.first_failure else {
            return self.lacking();
        };
        let failed = self.rows.iter().filter(|row| row.state == State::Failed);
        let names: Vec<&str> = failed.map(|row| row.name.as_str()).collect();
        let what =
            format!("{} of {} sources failed: {}", names.len(), self.rows.len(), names.join(", "));
        let remedy = "correct it and call again: built sources are not built again";
        Err(Error::new(cause, what, remedy))
    }
}

impl Driver<'_> {
    /// Nothing failed; but what needs a source for other machines is for this one, and is not there.
    fn lacking(&self) -> Result<(), Error> {
        let lacking = self.rows.iter().filter(|row| matches!(row.state, State::Skipped(_)));
        let lines: Vec<String> = lacking.map(|row| format!("{}: {}", row.name, row.note)).collect();
        if lines.is_empty() {
            return Ok(());
        }
        let what = format!("{} of {} sources cannot be built here", lines.len(), self.rows.len());
        let remedy = "leave out what is for other machines: the dist may have what they need";
        Err(Error::new(Cause::Dependency, what, remedy).with_details(lines))
    }
}

/// Whether a result is a package that others may need.
fn is_package(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.ends_with(".deb") || name.ends_with(".rpm") && !name.ends_with("src.rpm")
}
