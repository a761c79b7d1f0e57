mod ambient;
mod limits;
mod narrow;
mod registry;
mod tasks;
