//! `remit intents import`.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::Path,
};

use crate::{
    intent::import::{self, Beside, MAX_DESCRIPTION, Overlay, Source, Tree},
    problem::Problem,
};

use super::{End, ImportArgs, Terminal, print};

pub(super) fn run(args: &ImportArgs, to: &mut Terminal<'_>) -> io::Result<End> {
    if args.source.is_dir() {
        return folder(args, to);
    }
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

/// A folder gives a folder of catalogs, or one pack.
fn folder(args: &ImportArgs, to: &mut Terminal<'_>) -> io::Result<End> {
    let Some(output) = &args.output else {
        writeln!(to.err, "a folder gives many catalogs: name a folder for them with -o, or a file that ends in .pack")?;
        return Ok(End::Usage);
    };
    let tree = match Tree::import(&args.source, args.provider.as_deref()) {
        Ok(tree) => tree,
        Err(problem) => {
            writeln!(to.err, "{}", print::safe(&problem.to_string()))?;
            return Ok(End::Failed);
        }
    };
    let written = if output.extension().is_some_and(|e| e == "pack") {
        fs::write(output, tree.pack())
    } else {
        fs::create_dir_all(output)
            .and_then(|()| tree.groups.iter().try_for_each(|g| fs::write(output.join(format!("{}.yaml", g.name)), &g.text)))
    };
    if let Err(e) = written {
        writeln!(to.err, "{}: cannot be written: {e}", output.display())?;
        return Ok(End::Failed);
    }
    let (count, guessed): (usize, usize) = tree.groups.iter().fold((0, 0), |(c, u), g| (c + g.operations, u + g.uncertain));
    let (groups, twins, skipped) = (tree.groups.len(), tree.twins.len(), tree.skipped);
    writeln!(
        to.err,
        "{}: {count} operations in {groups} catalogs, {guessed} with a guessed effect or label; {twins} that no request tells from another; {skipped} files skipped",
        output.display()
    )?;
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
        beside: Some(&Beside::of(&args.source)?),
    })
}

/// Reads a file, but no more of it than an import takes.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, Problem> {
    let fail = |e: io::Error| Problem::new(format!("cannot be read: {e}")).at(path, None);
    let mut bytes = Vec::new();
    File::open(path).map_err(fail)?.take(MAX_DESCRIPTION + 1).read_to_end(&mut bytes).map_err(fail)?;
    Ok(bytes)
}
