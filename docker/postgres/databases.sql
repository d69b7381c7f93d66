-- Run once, when the volume is empty. The database of the results is made by the image itself.
CREATE DATABASE inventory;
CREATE DATABASE debezium;
