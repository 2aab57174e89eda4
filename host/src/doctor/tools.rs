//! Checks the programs that build images.

use crate::doctor::Finding;
use crate::image::format::{BOOTSTRAP, Format, Tool};

/// One finding for each program.
pub fn findings() -> Vec<Finding> {
    let formats = Format::ALL.into_iter().map(|format| {
        finding(format.tool(), &format!("no --format {} in 'bhost image build'", format.name()))
    });
    std::iter::once(finding(BOOTSTRAP, "no 'bhost image build'")).chain(formats).collect()
}

fn finding(tool: Tool, without: &str) -> Finding {
    match tool.find() {
        Ok(path) => Finding::ok(tool.program, path.display()),
        Err(_) => {
            let found = format!("not installed: {without}");
            Finding::warning(tool.program, found, format!("apt-get install {}", tool.package))
        }
    }
}
