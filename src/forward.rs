//! Room 7 canonical request, header hygiene, pool, address guard, bodies, upgrades.
