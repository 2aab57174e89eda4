//! A test program's choice of its tests: substrings of names, `--skip SUBSTRING`, `--exact`, `--list`.

/// A test and its name.
pub type Test = (&'static str, fn());

/// Run those of `tests` that the command line asks for, one after another.
pub fn run(tests: &[Test]) {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let exact = arguments.iter().any(|a| a == "--exact");
    let matches = |name: &str, text: &str| if exact { name == text } else { name.contains(text) };
    let (mut wanted, mut unwanted) = (Vec::new(), Vec::new());
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--skip" => unwanted.extend(rest.next()),
            "--test-threads" | "--format" | "--color" => drop(rest.next()),
            option if option.starts_with('-') => {}
            _ => wanted.push(argument),
        }
    }
    let chosen = tests.iter().filter(|(name, _)| {
        (wanted.is_empty() || wanted.iter().any(|text| matches(name, text)))
            && !unwanted.iter().any(|text| matches(name, text))
    });
    let list = arguments.iter().any(|a| a == "--list");
    for (name, test) in chosen {
        if list {
            println!("{name}: test");
        } else {
            test();
            println!("test {name} ... ok");
        }
    }
}
