PRAGMA application_id = 1768777586;
PRAGMA user_version = 2;
BEGIN TRANSACTION;
CREATE TABLE contents (id INTEGER PRIMARY KEY, digest TEXT NOT NULL UNIQUE);
INSERT INTO "contents" VALUES(1,'cf766b06cb238bee89c03938de9ae4ce2fa9a471ba76579522397ce008fb8647');
INSERT INTO "contents" VALUES(2,'517f867988cbc83fb8104fcd835039031274dfd35674f12674fd2ae5c8f6e2bb');
INSERT INTO "contents" VALUES(3,'4af56cd3e6af003cf150ba328b79cb316a2fc3b8708b41090b58ba495d1d69ed');
INSERT INTO "contents" VALUES(4,'691903af356d381da56193b70b65510307124086a86e183d1b88b2039f8a69dd');
CREATE TABLE failures (path PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
                       reason TEXT NOT NULL, time REAL NOT NULL);
INSERT INTO "failures" VALUES('/photos/bad.jpg',8,1795646606815648326,'not an image in a known format',1.79564660711525821688e+09);
CREATE TABLE generation (value TEXT NOT NULL);
INSERT INTO "generation" VALUES('44de8dd61b27bb306cbfa0d9ea4ccb01');
CREATE TABLE images (
    path PRIMARY KEY,                                    -- TEXT; BLOB where the name is not UTF-8
    content INTEGER NOT NULL REFERENCES contents (id),
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    missing INTEGER NOT NULL
);
INSERT INTO "images" VALUES('/photos/0.png',1,184,1795646606814565376,0);
INSERT INTO "images" VALUES('/photos/1.png',2,187,1795646606814997833,0);
INSERT INTO "images" VALUES('/photos/2.png',3,186,1795646606815284267,0);
INSERT INTO "images" VALUES('/photos/3.png',4,183,1795646606815539663,1);
CREATE TABLE notes (name TEXT PRIMARY KEY, json TEXT NOT NULL);
INSERT INTO "notes" VALUES('a fact','{"kept": true}');
CREATE TABLE spaces (id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, dim INTEGER NOT NULL,
                     record TEXT NOT NULL);
INSERT INTO "spaces" VALUES(1,'colour-35760381895d',8,'{"key": "colour-35760381895d", "extractor": "colour", "options": {"bins": 2, "colour_space": "rgb", "joint": true, "normalise": true, "min_side": 128}, "identity": {"extractor": "colour", "version": 1, "decoding": 1, "bins": 2, "colour_space": "rgb", "joint": true, "normalise": true, "min_side": 128}}');
INSERT INTO "spaces" VALUES(2,'colour-eaf3d3d57e10',8,'{"key": "colour-eaf3d3d57e10", "extractor": "colour", "options": {"bins": 2, "colour_space": "hsv", "joint": true, "normalise": true, "min_side": 128}, "identity": {"extractor": "colour", "version": 1, "decoding": 1, "bins": 2, "colour_space": "hsv", "joint": true, "normalise": true, "min_side": 128}}');
CREATE TABLE vectors_1 (content INTEGER PRIMARY KEY, vector BLOB NOT NULL);
INSERT INTO "vectors_1" VALUES(1,X'0000003F0000000000000000000000000000000000000000000000000000003F');
INSERT INTO "vectors_1" VALUES(2,X'0000000000000000000000000000003F0000000000000000000000000000003F');
INSERT INTO "vectors_1" VALUES(3,X'000000000000803E0000000000000000000000000000803E0000003F00000000');
INSERT INTO "vectors_1" VALUES(4,X'0000403F0000000000000000000000000000000000000000000000000000803E');
CREATE TABLE vectors_2 (content INTEGER PRIMARY KEY, vector BLOB NOT NULL);
INSERT INTO "vectors_2" VALUES(1,X'00000000000000000000803E00000000000000000000003F0000803E00000000');
INSERT INTO "vectors_2" VALUES(2,X'000000000000803E000000000000803E000000000000803E000000000000803E');
INSERT INTO "vectors_2" VALUES(3,X'0000000000000000000000000000003F0000000000000000000000000000003F');
INSERT INTO "vectors_2" VALUES(4,X'00000000000000000000003F00000000000000000000803E0000803E00000000');
CREATE INDEX images_by_content ON images (content);
COMMIT;
