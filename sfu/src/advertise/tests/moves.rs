//! What goes with an address that is not told any more: whose calls may be cut off.

use super::*;

#[test]
fn a_local_address_beside_a_public_one_that_goes_says_that_it_is_local() {
    let mut world = World::new("node_ip: 203.0.113.7, advertise_internal_ip: true");
    let both = [("eth0", "192.168.1.2"), ("wg0", "10.9.0.1")];
    world.interfaces(&both);
    world.told();
    world.interfaces(&both[..1]);
    world.after(1_000);
    assert_eq!(world.gone().as_deref(), Some("(10.9.0.1)"));
    world
        .advertiser
        .handle_configuration(rtc("node_ip: 203.0.113.8"));
    // The local one leads here all the same.
    assert_eq!(world.gone().as_deref(), Some("203.0.113.7"));
}

#[test]
fn a_local_address_that_is_filtered_out_is_gone_and_one_that_gives_way_is_not() {
    let mut world = World::new("use_external_ip: true");
    world.interfaces(&[("eth0", "192.168.1.2"), ("eth1", "192.168.7.2")]);
    world.told();
    let filter = "use_external_ip: true, interfaces: {excludes: [eth1]}";
    world.advertiser.handle_configuration(rtc(filter));
    assert_eq!(world.gone().as_deref(), Some("192.168.7.2"));
    world.asked("203.0.113.7");
    assert_eq!(world.gone().as_deref(), Some(""));
}
