//! Keys of a backend's directory whose values are missing, huge, no numbers, or half written.

/// What a key has in place of the right value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// This text.
    Text(String),
    /// Nothing: the key is not there.
    Missing,
}

/// Each way in which a number's key can be wrong, by name.
pub fn numbers() -> Vec<(&'static str, Wrong)> {
    let text = |text: &str| Wrong::Text(text.to_owned());
    vec![
        ("missing", Wrong::Missing),
        ("empty", text("")),
        ("zero", text("0")),
        ("one", text("1")),
        ("negative", text("-1")),
        ("word", text("many")),
        ("fraction", text("512.5")),
        ("trailing", text("512 ")),
        ("odd", text("513")),
        // One more than 32 bits hold, and the most that 64 do.
        ("33-bits", text("4294967296")),
        ("64-bits", text("18446744073709551615")),
        ("65-bits", text("18446744073709551616")),
        ("long", Wrong::Text("9".repeat(1500))),
        ("half", text("5\0")),
        ("bytes", text("\u{fffd}\u{1}")),
    ]
}
