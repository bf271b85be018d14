//! Two builds, the same bytes: the images of dist/x64 against those of a clean build in another folder.

use std::fs;

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};

use crate::{
    drivers::{DRIVERS, cargo_build, dist, finished},
    process,
    toolchain::root,
};

/// Builds again from nothing and compares. Images which were compared before are not built again.
pub(crate) fn check() -> Result<String> {
    let images = DRIVERS
        .iter()
        .map(|driver| {
            let path = dist().join(format!("{}.sys", driver.name));
            fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
        })
        .collect::<Result<Vec<_>>>()?;
    let mut hasher = Sha256::new();
    images.iter().for_each(|image| hasher.update(image));
    let digest = format!("{:x}", hasher.finalize());
    let proven = root().join("target/reproduced");
    if fs::read_to_string(&proven).is_ok_and(|text| text == digest) {
        return Ok("unchanged since it was shown".to_owned());
    }

    let target = root().join("target/reproduce");
    if target.exists() {
        fs::remove_dir_all(&target)
            .with_context(|| format!("cannot remove {}", target.display()))?;
    }
    process::expect("second build", &mut cargo_build(Some(&target)))?;
    for (driver, image) in DRIVERS.iter().zip(&images) {
        let (again, _) = finished(&target, driver)?;
        ensure!(
            again == *image,
            "{}.sys: two builds differ; compare dist/x64 with {}",
            driver.name,
            target.display()
        );
    }
    fs::remove_dir_all(&target)?;
    fs::write(&proven, digest)?;
    Ok(format!("{} images, byte for byte", images.len()))
}
