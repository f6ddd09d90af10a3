//! gitsocket
fn main() {}
