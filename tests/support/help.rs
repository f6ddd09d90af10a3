//! What `--help` says, for those who hold other texts to it.

use std::collections::BTreeSet;

use super::world::World;

/// A command's help. The program's own has no name.
pub struct Help {
    pub name: String,
    pub text: String,
    /// `--config` and `-c`; without `--help`, which all have.
    pub options: BTreeSet<String>,
}

/// The help of the program, and of each of its commands.
pub fn all() -> Vec<Help> {
    let world = World::new();
    let own = help(&world, "");
    let mut commands: Vec<Help> = section(&own.text, "Commands:")
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .map(|name| help(&world, name))
        .collect();
    assert!(commands.len() > 5, "only {} commands were found", commands.len());
    commands.insert(0, own);
    commands
}

fn help(world: &World, name: &str) -> Help {
    let args = [name, "--help"];
    let ended = world.run(args.iter().filter(|arg| !arg.is_empty()));
    assert_eq!((ended.exit, ended.err.as_str()), (0, ""), "{name} --help");
    // `  -c, --config      what it is for`, or `  --all             …`.
    let options = section(&ended.out, "Options:")
        .filter(|line| line.starts_with("  -"))
        .flat_map(|line| line.split_whitespace().take_while(|word| word.starts_with('-')))
        .map(|word| word.trim_end_matches(',').to_owned())
        .filter(|word| word != "--help")
        .collect();
    Help {
        name: name.into(),
        text: ended.out,
        options,
    }
}

/// The lines below `title`, up to an empty one.
fn section<'a>(text: &'a str, title: &'a str) -> impl Iterator<Item = &'a str> {
    text.lines()
        .skip_while(move |line| *line != title)
        .skip(1)
        .take_while(|line| !line.is_empty())
}
