//! `remit intents import`.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::Path,
};

use crate::{
    intent::import::{self, MAX_DESCRIPTION, Overlay, Source},
    problem::Problem,
};

use super::{End, ImportArgs, Terminal, print};

pub(super) fn run(args: &ImportArgs, to: &mut Terminal<'_>) -> io::Result<End> {
    let imported = match import(args) {
        Ok(imported) => imported,
        Err(problem) => {
            writeln!(to.err, "{}", print::safe(&problem.to_string()))?;
            return Ok(End::Failed);
        }
    };
    let Some(path) = &args.output else {
        to.out.write_all(imported.text.as_bytes())?;
        return Ok(End::Ok);
    };
    if let Err(e) = fs::write(path, &imported.text) {
        writeln!(to.err, "{}: cannot be written: {e}", path.display())?;
        return Ok(End::Failed);
    }
    let (count, guessed) = (imported.operations, imported.uncertain);
    writeln!(to.err, "{}: {count} operations of {}, {guessed} with a guessed effect or label", path.display(), imported.provider)?;
    if imported.left_out > 0 {
        writeln!(to.err, "{} operations were left out; the file's first lines say which, and why", imported.left_out)?;
    }
    Ok(End::Ok)
}

fn import(args: &ImportArgs) -> Result<import::Imported, Problem> {
    let bytes = read(&args.source)?;
    let overlay = match &args.overlay {
        Some(path) => {
            let text = String::from_utf8(read(path)?).map_err(|_| Problem::new("the overlay is not UTF-8").at(path, None))?;
            Some(Overlay::parse(path, &text)?)
        }
        None => None,
    };
    let file = args.source.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    import::import(Source {
        name: args.source_name.as_deref().unwrap_or(&file),
        bytes: &bytes,
        provider: args.provider.as_deref(),
        format: args.format.map(Into::into),
        host: args.host.as_deref(),
        overlay: overlay.as_ref(),
    })
}

/// Reads a file, but no more of it than an import takes.
fn read(path: &Path) -> Result<Vec<u8>, Problem> {
    let fail = |e: io::Error| Problem::new(format!("cannot be read: {e}")).at(path, None);
    let mut bytes = Vec::new();
    File::open(path).map_err(fail)?.take(MAX_DESCRIPTION + 1).read_to_end(&mut bytes).map_err(fail)?;
    Ok(bytes)
}
