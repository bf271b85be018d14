//! What an installation writes besides.

use rig::packages::Packages;

/// Adds lines to the beginning of a section of an INF file.
pub fn add_lines(
    packages: &mut Packages,
    name: &str,
    section: &str,
    lines: &str,
) -> Result<(), String> {
    let heading = format!("[{section}]\r\n");
    let mut infs = packages.infs.iter_mut();
    let inf = infs.find(|inf| inf.name == name);
    let inf = inf.ok_or_else(|| format!("no {name}"))?;
    let text = String::from_utf8(inf.bytes.to_vec()).map_err(|error| error.to_string())?;
    if !text.contains(&heading) {
        return Err(format!("{name} has no section {section}"));
    }
    inf.bytes = text
        .replace(&heading, &format!("{heading}{lines}"))
        .into_bytes();
    Ok(())
}
