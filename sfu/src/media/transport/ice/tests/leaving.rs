//! Paths that a client is to leave: they are held back until there is another one, or for a while.

use super::*;

#[test]
fn by_a_path_to_be_left_nothing_is_sent_after_a_restart_until_there_is_another_one() {
    let mut world = World::new();
    let old = world.ice.local().clone();
    world.check(1, 50, true);
    world.media(1);
    world.ice.leave(true);
    world.check(1, 50, true);
    world.media(1);
    assert_eq!(world.selected(), 1, "not before the restart");
    world.events();
    world.restart(credentials(2));
    assert_eq!(world.events(), [Event::Retired(old.ufrag.clone())]);
    let username = format!("{}:them", old.ufrag);
    let check = Check {
        username: Some(&username),
        password: Some(&old.pwd),
        priority: 50,
        nominate: true,
        controlled: false,
        extra: &[],
    };
    assert_eq!(world.send(&check, 1).0, Verdict::Unauthorized);
    world.pass(seconds(5));
    world.media(1);
    assert_eq!((world.ice.selected(), world.events()), (None, vec![]));
    world.check(2, 10, false);
    world.media(1);
    assert_eq!(world.selected(), 2, "checked since");
    world.check(2, 10, true);
    world.media(2);
    assert_eq!(world.events(), [Event::Selected(path(2))]);
    // It holds for one restart.
    let second = world.ice.local().clone();
    world.restart(credentials(3));
    world.check_as(&second, 2, 10, true);
    world.media(2);
    assert_eq!((world.events(), world.selected()), (vec![], 2));
}

#[test]
fn a_path_to_be_left_serves_on_when_there_is_no_other_one_in_time() {
    let mut world = World::new();
    world.check(1, 50, true);
    world.media(1);
    world.ice.leave(true);
    world.restart(credentials(2));
    world.pass(HOLD_BACK);
    world.media(1);
    assert_eq!(world.selected(), 1);
    world.check(2, 10, true);
    world.media(2);
    assert_eq!(world.selected(), 2, "late, but there it is");
}

#[test]
fn a_path_to_be_left_is_held_back_for_longer_where_another_one_is_checked_already() {
    let mut world = World::new();
    world.check(1, 50, true);
    world.media(1);
    world.ice.leave(true);
    world.restart(credentials(2));
    world.pass(HOLD_BACK - seconds(1));
    world.check(2, 10, false);
    world.pass(HOLD_BACK);
    world.media(1);
    assert_eq!(world.selected(), 2);
    world.pass(seconds(1));
    world.media(1);
    assert_eq!(world.selected(), 1, "it does not take the other one");
}

#[test]
fn who_starts_over_while_a_path_is_held_back_has_it_held_back_anew_unless_all_are_open_again() {
    for open in [false, true] {
        let mut world = World::new();
        world.check(1, 50, true);
        world.media(1);
        world.ice.leave(true);
        world.restart(credentials(2));
        world.pass(seconds(5));
        if open {
            world.ice.leave(false);
        }
        world.restart(credentials(3));
        world.pass(seconds(5));
        world.media(1);
        assert_eq!(world.ice.selected().is_some(), open);
    }
    let mut world = World::new();
    world.check(1, 50, true);
    world.media(1);
    world.ice.leave(true);
    world.ice.leave(false);
    world.restart(credentials(2));
    assert_eq!(world.selected(), 1);
}
