CREATE DATABASE warehouse OWNER millrace;
