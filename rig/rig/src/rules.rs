//! `rig rules`: the verifier's rules, for people.

use std::fmt::Write;

use nt_host::verifier::RULES;

/// The rules under their chapters, a line each.
pub fn list() -> String {
    let width = RULES.iter().map(|row| row.id.len()).max().unwrap_or(0);
    let mut text = String::new();
    let mut chapter = "";
    for row in RULES {
        if row.chapter != chapter {
            let between = if chapter.is_empty() { "" } else { "\n" };
            chapter = row.chapter;
            // Writing to a string does not fail.
            let _ = writeln!(text, "{between}{chapter}");
        }
        let _ = writeln!(text, "  {:width$}  {}", row.id, row.about);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_has_each_rule_under_its_chapter() {
        let text = list();
        let at = |part: &str| text.find(part).expect(part);
        assert!(at("\nPool\n") < at("  pool-double-free  "));
        assert!(at("  pool-double-free  ") < at("\nSpin locks\n"));
        assert_eq!(
            text.lines().filter(|line| line.starts_with("  ")).count(),
            RULES.len()
        );
    }

    /// docs/TESTING.md shows the same table.
    #[test]
    fn the_documentation_has_each_rule_and_no_other() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/TESTING.md");
        let text = std::fs::read_to_string(path).expect("docs/TESTING.md");
        let start = text.find("### Rules").expect("a chapter on the rules");
        let told: Vec<&str> = text[start..]
            .lines()
            .skip(1)
            .take_while(|line| !line.starts_with('#'))
            .filter(|line| line.starts_with("| `"))
            .collect();
        let wanted: Vec<String> = RULES
            .iter()
            .map(|row| format!("| `{}` | {} |", row.id, row.about))
            .collect();
        assert_eq!(told, wanted);
    }
}
