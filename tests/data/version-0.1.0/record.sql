BEGIN TRANSACTION;
CREATE TABLE device_settings (
	id INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	address TEXT NOT NULL, 
	python TEXT NOT NULL, 
	cpus TEXT, 
	provider TEXT NOT NULL, 
	threads INTEGER NOT NULL, 
	graph_optimization TEXT NOT NULL, 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_device_settings PRIMARY KEY (id), 
	CONSTRAINT uq_device_settings_name UNIQUE (name)
);
CREATE TABLE devices (
	id INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	fingerprint TEXT NOT NULL, 
	processor TEXT NOT NULL, 
	machine TEXT NOT NULL, 
	system TEXT NOT NULL, 
	cores INTEGER NOT NULL, 
	provider TEXT NOT NULL, 
	threads INTEGER NOT NULL, 
	precision TEXT NOT NULL, 
	graph_optimization TEXT NOT NULL, 
	runtime_version TEXT NOT NULL, 
	CONSTRAINT pk_devices PRIMARY KEY (id), 
	CONSTRAINT uq_devices_name_fingerprint UNIQUE (name, fingerprint)
);
CREATE TABLE exports (
	id INTEGER NOT NULL, 
	search_id INTEGER NOT NULL, 
	trial_id INTEGER NOT NULL, 
	folder TEXT NOT NULL, 
	files JSON NOT NULL, 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_exports PRIMARY KEY (id), 
	CONSTRAINT fk_exports_search_id FOREIGN KEY(search_id) REFERENCES searches (id), 
	CONSTRAINT fk_exports_trial_id FOREIGN KEY(trial_id) REFERENCES trials (id)
);
INSERT INTO "exports" VALUES(1,1,19,'/srv/before/runs/whole','{"architecture.json": "aa57ef44d918838f49636be1fae0b3394c0e2aae90b873dc2a404e87ffb4ce17"}','2026-11-28 22:55:40.236294');
CREATE TABLE latency_entries (
	id INTEGER NOT NULL, 
	table_id INTEGER NOT NULL, 
	"key" TEXT NOT NULL, 
	samples JSON NOT NULL, 
	cold_wall_ms DOUBLE NOT NULL, 
	cold_cpu_ms DOUBLE NOT NULL, 
	warm_wall_ms DOUBLE NOT NULL, 
	warm_cpu_ms DOUBLE NOT NULL, 
	reason TEXT NOT NULL, 
	measured_at DATETIME NOT NULL, low_ms DOUBLE, high_ms DOUBLE, spread DOUBLE, 
	CONSTRAINT pk_latency_entries PRIMARY KEY (id), 
	CONSTRAINT fk_latency_entries_table_id FOREIGN KEY(table_id) REFERENCES latency_tables (id), 
	CONSTRAINT uq_latency_entries_table_id_key UNIQUE (table_id, "key")
);
CREATE TABLE latency_tables (
	id INTEGER NOT NULL, 
	device_id INTEGER NOT NULL, 
	scope TEXT NOT NULL, 
	calibration JSON, 
	conditions JSON NOT NULL, 
	protocol TEXT NOT NULL, 
	created_at DATETIME NOT NULL, 
	finished_at DATETIME, 
	CONSTRAINT pk_latency_tables PRIMARY KEY (id), 
	CONSTRAINT fk_latency_tables_device_id FOREIGN KEY(device_id) REFERENCES devices (id)
);
CREATE TABLE log_lines (
	id INTEGER NOT NULL, 
	search_id INTEGER NOT NULL, 
	trial INTEGER, 
	at DATETIME NOT NULL, 
	level TEXT NOT NULL, 
	event TEXT NOT NULL, 
	message TEXT NOT NULL, 
	CONSTRAINT pk_log_lines PRIMARY KEY (id), 
	CONSTRAINT fk_log_lines_search_id FOREIGN KEY(search_id) REFERENCES searches (id)
);
INSERT INTO "log_lines" VALUES(1,1,NULL,'2026-11-28 22:55:36.028229','info','begin','block-level search …');
INSERT INTO "log_lines" VALUES(2,1,0,'2026-11-28 22:55:36.594207','info','trial','trial 0  [reference]  5.400 ms  top-1 75.84%  reward 0.7584');
INSERT INTO "log_lines" VALUES(3,1,1,'2026-11-28 22:55:36.822904','info','trial','trial 1  [feasible-first]  5.714 ms  top-1 75.69%  reward 0.7569');
INSERT INTO "log_lines" VALUES(4,1,2,'2026-11-28 22:55:37.005406','info','trial','trial 2  [feasible-first]  9.236 ms  top-1 79.95%  reward 0.7995');
INSERT INTO "log_lines" VALUES(5,1,3,'2026-11-28 22:55:37.244041','info','trial','trial 3  [feasible-first]  5.310 ms  top-1 74.87%  reward 0.7487');
INSERT INTO "log_lines" VALUES(6,1,4,'2026-11-28 22:55:37.460457','info','trial','trial 4  [feasible-first]  5.432 ms  top-1 75.34%  reward 0.7534');
INSERT INTO "log_lines" VALUES(7,1,5,'2026-11-28 22:55:37.721206','info','trial','trial 5  [feasible-first]  4.676 ms  top-1 75.12%  reward 0.7512');
INSERT INTO "log_lines" VALUES(8,1,6,'2026-11-28 22:55:37.899583','info','trial','trial 6  [feasible-first]  8.216 ms  top-1 79.56%  reward 0.7956');
INSERT INTO "log_lines" VALUES(9,1,7,'2026-11-28 22:55:38.076241','info','trial','trial 7  [feasible-first]  6.922 ms  top-1 78.39%  reward 0.7839');
INSERT INTO "log_lines" VALUES(10,1,NULL,'2026-11-28 22:55:38.077060','info','end','block-level search: done in 2.0 s');
INSERT INTO "log_lines" VALUES(11,1,NULL,'2026-11-28 22:55:38.086903','info','begin','NetAdapt (ms to walk) …');
INSERT INTO "log_lines" VALUES(12,1,8,'2026-11-28 22:55:38.216502','info','trial','trial 8  [stage2_block1 expansion 72→48]  8.641 ms  top-1 79.45%');
INSERT INTO "log_lines" VALUES(13,1,9,'2026-11-28 22:55:38.333043','info','trial','trial 9  [stage2_block2 expansion 112→80]  8.770 ms  top-1 79.56%');
INSERT INTO "log_lines" VALUES(14,1,10,'2026-11-28 22:55:38.444772','info','trial','trial 10  [stage2_block3 expansion 112→80]  8.770 ms  top-1 79.56%');
INSERT INTO "log_lines" VALUES(15,1,11,'2026-11-28 22:55:38.559948','info','trial','trial 11  [stage3_block1 expansion 144→88]  8.774 ms  top-1 79.57%');
INSERT INTO "log_lines" VALUES(16,1,12,'2026-11-28 22:55:38.669592','info','trial','trial 12  [stage1 width 16→8]  8.450 ms  top-1 79.28%');
INSERT INTO "log_lines" VALUES(17,1,13,'2026-11-28 22:55:38.788468','info','trial','trial 13  [stage2 width 24→16]  7.877 ms  top-1 78.73%');
INSERT INTO "log_lines" VALUES(18,1,14,'2026-11-28 22:55:38.898533','info','trial','trial 14  [stage3+stage4 width 24→16]  8.770 ms  top-1 79.56%');
INSERT INTO "log_lines" VALUES(19,1,11,'2026-11-28 22:55:38.914994','info','step','NetAdapt step 1: stage3_block1 expansion 144→88, 9.236 → 8.774 ms, top-1 79.95% → 79.57%');
INSERT INTO "log_lines" VALUES(20,1,15,'2026-11-28 22:55:39.068777','info','trial','trial 15  [stage2_block1 expansion 72→48]  8.178 ms  top-1 79.03%');
INSERT INTO "log_lines" VALUES(21,1,16,'2026-11-28 22:55:39.181159','info','trial','trial 16  [stage2_block2 expansion 112→80]  8.307 ms  top-1 79.15%');
INSERT INTO "log_lines" VALUES(22,1,17,'2026-11-28 22:55:39.314819','info','trial','trial 17  [stage2_block3 expansion 112→80]  8.307 ms  top-1 79.15%');
INSERT INTO "log_lines" VALUES(23,1,18,'2026-11-28 22:55:39.433592','info','trial','trial 18  [stage1 width 16→8]  7.988 ms  top-1 78.84%');
INSERT INTO "log_lines" VALUES(24,1,19,'2026-11-28 22:55:39.553626','info','trial','trial 19  [stage2 width 24→16]  7.529 ms  top-1 78.36%');
INSERT INTO "log_lines" VALUES(25,1,16,'2026-11-28 22:55:39.565420','info','step','NetAdapt step 2: stage2_block2 expansion 112→80, 8.774 → 8.307 ms, top-1 79.57% → 79.15%');
INSERT INTO "log_lines" VALUES(26,1,20,'2026-11-28 22:55:39.731276','info','trial','trial 20  [stage2_block1 expansion 72→48]  7.711 ms  top-1 78.55%');
INSERT INTO "log_lines" VALUES(27,1,21,'2026-11-28 22:55:39.864418','info','trial','trial 21  [stage2_block2 expansion 80→48]  7.840 ms  top-1 78.69%');
INSERT INTO "log_lines" VALUES(28,1,22,'2026-11-28 22:55:39.987394','info','trial','trial 22  [stage2_block3 expansion 112→80]  7.840 ms  top-1 78.69%');
INSERT INTO "log_lines" VALUES(29,1,23,'2026-11-28 22:55:40.102219','info','trial','trial 23  [stage1 width 16→8]  7.521 ms  top-1 78.35%');
INSERT INTO "log_lines" VALUES(30,1,24,'2026-11-28 22:55:40.220473','info','trial','trial 24  [stage2 width 24→16]  7.193 ms  top-1 77.97%');
INSERT INTO "log_lines" VALUES(31,1,21,'2026-11-28 22:55:40.222169','info','step','NetAdapt step 3: stage2_block2 expansion 80→48, 8.307 → 7.840 ms, top-1 79.15% → 78.69%');
INSERT INTO "log_lines" VALUES(32,1,NULL,'2026-11-28 22:55:40.234231','info','end','NetAdapt (ms to walk): done in 2.1 s');
INSERT INTO "log_lines" VALUES(33,3,NULL,'2026-11-28 22:56:07.247737','info','begin','block-level search …');
INSERT INTO "log_lines" VALUES(34,3,0,'2026-11-28 22:56:08.834303','info','trial','trial 0  [reference]  5.400 ms  top-1 75.84%  reward 0.7584');
INSERT INTO "log_lines" VALUES(35,3,1,'2026-11-28 22:56:09.201676','info','trial','trial 1  [feasible-first]  5.714 ms  top-1 75.69%  reward 0.7569');
INSERT INTO "log_lines" VALUES(36,3,2,'2026-11-28 22:56:09.409635','info','trial','trial 2  [feasible-first]  9.236 ms  top-1 79.95%  reward 0.7995');
INSERT INTO "log_lines" VALUES(37,3,3,'2026-11-28 22:56:09.640207','info','trial','trial 3  [feasible-first]  5.310 ms  top-1 74.87%  reward 0.7487');
INSERT INTO "log_lines" VALUES(38,3,4,'2026-11-28 22:56:09.880021','info','trial','trial 4  [feasible-first]  5.432 ms  top-1 75.34%  reward 0.7534');
INSERT INTO "log_lines" VALUES(39,3,5,'2026-11-28 22:56:10.298270','info','trial','trial 5  [feasible-first]  4.676 ms  top-1 75.12%  reward 0.7512');
CREATE TABLE mobilenas_alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT mobilenas_alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "mobilenas_alembic_version" VALUES('0007');
CREATE TABLE netadapt_steps (
	id INTEGER NOT NULL, 
	search_id INTEGER NOT NULL, 
	iteration INTEGER NOT NULL, 
	trial INTEGER NOT NULL, 
	parent INTEGER NOT NULL, 
	narrowed TEXT NOT NULL, 
	latency_before_ms DOUBLE NOT NULL, 
	latency_after_ms DOUBLE NOT NULL, 
	top1_before DOUBLE NOT NULL, 
	top1_after DOUBLE NOT NULL, 
	proposals INTEGER NOT NULL, 
	CONSTRAINT pk_netadapt_steps PRIMARY KEY (id), 
	CONSTRAINT fk_netadapt_steps_search_id_parent FOREIGN KEY(search_id, parent) REFERENCES trials (search_id, number), 
	CONSTRAINT fk_netadapt_steps_search_id_trial FOREIGN KEY(search_id, trial) REFERENCES trials (search_id, number), 
	CONSTRAINT fk_netadapt_steps_search_id FOREIGN KEY(search_id) REFERENCES searches (id), 
	CONSTRAINT uq_netadapt_steps_search_id_iteration UNIQUE (search_id, iteration)
);
INSERT INTO "netadapt_steps" VALUES(1,1,1,11,2,'stage3_block1 expansion 144→88',9.23648,8.774144,7.9950415788574369369e-01,7.95685201905599215344e-01,7);
INSERT INTO "netadapt_steps" VALUES(2,1,2,16,11,'stage2_block2 expansion 112→80',8.774144,8.3072,7.95685201905599215344e-01,7.9148044085687685456e-01,5);
INSERT INTO "netadapt_steps" VALUES(3,1,3,21,16,'stage2_block2 expansion 80→48',8.3072,7.840256,7.9148044085687685456e-01,7.86876627599932487733e-01,5);
CREATE TABLE network_measurements (
	id INTEGER NOT NULL, 
	search_id INTEGER NOT NULL, 
	table_id INTEGER NOT NULL, 
	trial INTEGER NOT NULL, 
	predicted_ms DOUBLE NOT NULL, 
	measured_ms DOUBLE NOT NULL, 
	low_ms DOUBLE NOT NULL, 
	high_ms DOUBLE NOT NULL, 
	median_ms DOUBLE NOT NULL, 
	sample_count INTEGER NOT NULL, 
	samples JSON NOT NULL, 
	measured_at DATETIME NOT NULL, 
	CONSTRAINT pk_network_measurements PRIMARY KEY (id), 
	CONSTRAINT fk_network_measurements_search_id_trial FOREIGN KEY(search_id, trial) REFERENCES trials (search_id, number), 
	CONSTRAINT fk_network_measurements_search_id FOREIGN KEY(search_id) REFERENCES searches (id), 
	CONSTRAINT fk_network_measurements_table_id FOREIGN KEY(table_id) REFERENCES latency_tables (id)
);
CREATE TABLE search_labels (
	search_id INTEGER NOT NULL, 
	label TEXT NOT NULL, 
	CONSTRAINT pk_search_labels PRIMARY KEY (search_id, label), 
	CONSTRAINT fk_search_labels_search_id FOREIGN KEY(search_id) REFERENCES searches (id)
);
CREATE TABLE search_targets (
	search_id INTEGER NOT NULL, 
	table_id INTEGER NOT NULL, 
	target_ms DOUBLE NOT NULL, 
	reference_ms DOUBLE NOT NULL, 
	CONSTRAINT pk_search_targets PRIMARY KEY (search_id, table_id), 
	CONSTRAINT fk_search_targets_search_id_searches FOREIGN KEY(search_id) REFERENCES searches (id), 
	CONSTRAINT fk_search_targets_table_id_latency_tables FOREIGN KEY(table_id) REFERENCES latency_tables (id)
);
CREATE TABLE "searches" (
	id INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	config JSON NOT NULL, 
	stage TEXT NOT NULL, 
	finish_requested BOOLEAN NOT NULL, 
	error TEXT, 
	run_folder TEXT, 
	data_hash TEXT, 
	device_id INTEGER, 
	table_id INTEGER, 
	target_ms DOUBLE, 
	seed_target_ms DOUBLE, 
	fastest_ms DOUBLE, 
	slowest_ms DOUBLE, 
	reference_ms DOUBLE, 
	created_at DATETIME NOT NULL, 
	updated_at DATETIME NOT NULL, 
	finished_at DATETIME, 
	data TEXT NOT NULL, 
	owner TEXT, 
	note TEXT, 
	budget TEXT, 
	queued_at DATETIME, 
	stop_requested BOOLEAN NOT NULL, 
	claimed_by TEXT, 
	heartbeat_at DATETIME, 
	claims INTEGER NOT NULL, group_name TEXT, priority INTEGER DEFAULT '0' NOT NULL, 
	CONSTRAINT pk_searches PRIMARY KEY (id), 
	CONSTRAINT fk_searches_table_id FOREIGN KEY(table_id) REFERENCES latency_tables (id), 
	CONSTRAINT fk_searches_device_id FOREIGN KEY(device_id) REFERENCES devices (id), 
	CONSTRAINT uq_searches_name UNIQUE (name)
);
INSERT INTO "searches" VALUES(1,'whole','{"name": "whole", "seed": 0, "workers": 1, "trial_minutes": 60.0, "determinism": "strict", "batch": 2, "executor": "local", "ray": {"address": null, "cpus": 1.0, "gpus": 0.0, "resources": {}, "max_concurrent_trials": null, "scheduler": "none", "final_processes": 1, "retries": 2}, "evaluator": "slow_judge:top1", "latency": "slow_judge:ms", "plugins": "/srv/before", "data": {"source": "none", "data_dir": null, "resolution": 32, "channels": 1, "classes": 10, "reward_fraction": 0.15, "reward_images": 2500, "split_seed": 0}, "space": {"preset": "mobilenet-v3-small-32px", "width": 0.5}, "device": {"name": "local", "threads": null, "rounds": 16, "warm_runs": 8, "precision": 0.03, "minutes": null}, "target": {"relative": null, "ms": 8.0}, "targets": {}, "mode": "per-device", "limits": {"latency_ms": null, "madds": null, "params": null, "peak_bytes": null}, "training": {"seed": 0, "batch_size": 64, "learning_rate": 0.2, "weight_decay": 0.0001, "label_smoothing": 0.05, "shift": 0.0, "flip": true}, "blocks": {"trials": 8, "sampler": "feasible-first", "reference": true, "seed_factor": 1.25, "tolerance": 0.05, "reward": {"kind": "hard", "exponent": null}, "objectives": [], "train_images": 6000, "epochs": 1.0, "enqueue": [], "start_from": [], "reuse": false}, "netadapt": {"start": null, "delta": 0.05, "decay": 1.0, "choice": "ratio", "walk": 0.1, "images": 640, "learning_rate_factor": 0.2, "max_steps": 200}, "final": {"images": 60000, "top_k": 1, "weights": "scratch"}}','done',0,NULL,'/srv/before/runs/whole','slow_judge:top1@a0f0810e743e41ae',NULL,NULL,8.0,10.0,1.491072,25.659776,5.399552,'2026-11-28 22:55:34.965285','2026-11-28 22:55:40.288759','2026-11-28 22:55:40.288622','none','somebody',NULL,'default',NULL,0,NULL,NULL,0,NULL,0);
INSERT INTO "searches" VALUES(2,'waiting','{"name": "waiting", "seed": 0, "workers": 1, "trial_minutes": 60.0, "determinism": "strict", "batch": 2, "executor": "local", "ray": {"address": null, "cpus": 1.0, "gpus": 0.0, "resources": {}, "max_concurrent_trials": null, "scheduler": "none", "final_processes": 1, "retries": 2}, "evaluator": "slow_judge:top1", "latency": "slow_judge:ms", "plugins": "/srv/before", "data": {"source": "none", "data_dir": null, "resolution": 32, "channels": 1, "classes": 10, "reward_fraction": 0.15, "reward_images": 2500, "split_seed": 0}, "space": {"preset": "mobilenet-v3-small-32px", "width": 0.5}, "device": {"name": "local", "threads": null, "rounds": 16, "warm_runs": 8, "precision": 0.03, "minutes": null}, "target": {"relative": null, "ms": 8.0}, "targets": {}, "mode": "per-device", "limits": {"latency_ms": null, "madds": null, "params": null, "peak_bytes": null}, "training": {"seed": 0, "batch_size": 64, "learning_rate": 0.2, "weight_decay": 0.0001, "label_smoothing": 0.05, "shift": 0.0, "flip": true}, "blocks": {"trials": 8, "sampler": "feasible-first", "reference": true, "seed_factor": 1.25, "tolerance": 0.05, "reward": {"kind": "hard", "exponent": null}, "objectives": [], "train_images": 6000, "epochs": 1.0, "enqueue": [], "start_from": [], "reuse": false}, "netadapt": {"start": null, "delta": 0.05, "decay": 1.0, "choice": "ratio", "walk": 0.1, "images": 640, "learning_rate_factor": 0.2, "max_steps": 200}, "final": {"images": 60000, "top_k": 1, "weights": "scratch"}}','queued',0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'2026-11-28 22:55:52.196331','2026-11-28 22:55:52.196331',NULL,'none','somebody',NULL,'default','2026-11-28 22:55:52.196331',0,NULL,NULL,0,NULL,0);
INSERT INTO "searches" VALUES(3,'stopped','{"name": "stopped", "seed": 0, "workers": 1, "trial_minutes": 60.0, "determinism": "strict", "batch": 2, "executor": "local", "ray": {"address": null, "cpus": 1.0, "gpus": 0.0, "resources": {}, "max_concurrent_trials": null, "scheduler": "none", "final_processes": 1, "retries": 2}, "evaluator": "slow_judge:top1", "latency": "slow_judge:ms", "plugins": "/srv/before", "data": {"source": "none", "data_dir": null, "resolution": 32, "channels": 1, "classes": 10, "reward_fraction": 0.15, "reward_images": 2500, "split_seed": 0}, "space": {"preset": "mobilenet-v3-small-32px", "width": 0.5}, "device": {"name": "local", "threads": null, "rounds": 16, "warm_runs": 8, "precision": 0.03, "minutes": null}, "target": {"relative": null, "ms": 8.0}, "targets": {}, "mode": "per-device", "limits": {"latency_ms": null, "madds": null, "params": null, "peak_bytes": null}, "training": {"seed": 0, "batch_size": 64, "learning_rate": 0.2, "weight_decay": 0.0001, "label_smoothing": 0.05, "shift": 0.0, "flip": true}, "blocks": {"trials": 8, "sampler": "feasible-first", "reference": true, "seed_factor": 1.25, "tolerance": 0.05, "reward": {"kind": "hard", "exponent": null}, "objectives": [], "train_images": 6000, "epochs": 1.0, "enqueue": [], "start_from": [], "reuse": false}, "netadapt": {"start": null, "delta": 0.05, "decay": 1.0, "choice": "ratio", "walk": 0.1, "images": 640, "learning_rate_factor": 0.2, "max_steps": 200}, "final": {"images": 60000, "top_k": 1, "weights": "scratch"}}','blocks',0,NULL,'/srv/before/runs/stopped','slow_judge:top1@a0f0810e743e41ae',NULL,NULL,8.0,10.0,1.491072,25.659776,5.399552,'2026-11-28 22:56:06.782499','2026-11-28 22:56:10.293113',NULL,'none','somebody',NULL,'default',NULL,0,NULL,NULL,0,NULL,0);
CREATE TABLE trial_latencies (
	search_id INTEGER NOT NULL, 
	number INTEGER NOT NULL, 
	table_id INTEGER NOT NULL, 
	latency_ms DOUBLE NOT NULL, 
	CONSTRAINT pk_trial_latencies PRIMARY KEY (search_id, number, table_id), 
	CONSTRAINT fk_trial_latencies_search_id_trials FOREIGN KEY(search_id, number) REFERENCES trials (search_id, number), 
	CONSTRAINT fk_trial_latencies_table_id_latency_tables FOREIGN KEY(table_id) REFERENCES latency_tables (id)
);
CREATE TABLE trials (
	id INTEGER NOT NULL, 
	search_id INTEGER NOT NULL, 
	number INTEGER NOT NULL, 
	stage TEXT NOT NULL, 
	state TEXT NOT NULL, 
	origin TEXT NOT NULL, 
	arch_id TEXT NOT NULL, 
	architecture TEXT NOT NULL, 
	top1 DOUBLE, 
	latency_ms DOUBLE NOT NULL, 
	madds BIGINT NOT NULL, 
	params_count BIGINT NOT NULL, 
	reward DOUBLE, 
	seed BIGINT NOT NULL, 
	attempt INTEGER NOT NULL, 
	parent INTEGER, 
	iteration INTEGER, 
	params JSON, 
	evaluation_key TEXT, 
	images_seen BIGINT NOT NULL, 
	weights TEXT, 
	reused_from INTEGER, 
	correct INTEGER, 
	total INTEGER, 
	error TEXT, 
	started_at DATETIME NOT NULL, 
	finished_at DATETIME, 
	duration_s DOUBLE, peak_bytes BIGINT, sampler_attrs JSON, 
	CONSTRAINT pk_trials PRIMARY KEY (id), 
	CONSTRAINT fk_trials_reused_from FOREIGN KEY(reused_from) REFERENCES trials (id), 
	CONSTRAINT fk_trials_search_id_parent FOREIGN KEY(search_id, parent) REFERENCES trials (search_id, number), 
	CONSTRAINT fk_trials_search_id FOREIGN KEY(search_id) REFERENCES searches (id), 
	CONSTRAINT uq_trials_search_id_number UNIQUE (search_id, number)
);
INSERT INTO "trials" VALUES(1,1,0,'blocks','complete','reference','5ef9f385e600f181','{"head":{"activation":"hswish","conv_channels":288,"hidden_channels":512},"in_channels":1,"num_classes":10,"resolution":32,"stages":[{"blocks":[{"activation":"relu","expanded_channels":null,"kernel_size":3,"use_se":true}],"out_channels":8,"stride":1},{"blocks":[{"activation":"relu","expanded_channels":40,"kernel_size":3,"use_se":false},{"activation":"relu","expanded_channels":48,"kernel_size":3,"use_se":false}],"out_channels":16,"stride":2},{"blocks":[{"activation":"hswish","expanded_channels":48,"kernel_size":5,"use_se":true},{"activation":"hswish","expanded_channels":120,"kernel_size":5,"use_se":true},{"activation":"hswish","expanded_channels":120,"kernel_size":5,"use_se":true}],"out_channels":24,"stride":2},{"blocks":[{"activation":"hswish","expanded_channels":64,"kernel_size":5,"use_se":true},{"activation":"hswish","expanded_channels":72,"kernel_size":5,"use_se":true}],"out_channels":24,"stride":1},{"blocks":[{"activation":"hswish","expanded_channels":144,"kernel_size":5,"use_se":true},{"activation":"hswish","expanded_channels":288,"kernel_size":5,"use_se":true},{"activation":"hswish","expanded_channels":288,"kernel_size":5,"use_se":true}],"out_channels":48,"stride":2}],"stem":{"activation":"hswish","out_channels":8,"stride":1},"version":1}',7.58356683215416382815e-01,5.399552,5399552,409250,7.58356683215416382815e-01,0,1,NULL,NULL,NULL,'8b0729cc4322557337136199e0a3f44d',0,NULL,NULL,NULL,NULL,NULL,'2026-11-28 22:55:36.031883','2026-11-28 22:55:36.590067',0.558184,204800,NULL);
INSERT INTO "trials" VALUES(2,1,1,'blocks','complete','feasible-first','d12cf47337d6c962','{"head":{"activation":"hswish","conv_channels":288,"hidden_channels":512},"in_channels":1,"num_classes":10,"resolution":32,"stages":[{"blocks":[{"activation":"relu","expanded_channels":24,"kernel_size":3,"use_se":false}],"out_channels":8,"stride":1},{"blocks":[{"activation":"hswish","expanded_channels":24,"kernel_size":5,"use_se":true}],"out_channels":16,"stride":2},{"blocks":[{"activation":"hswish","expanded_channels":64,"kernel_size":5,"use_se":true},{"activation":"hswish","expanded_channels":64,"kernel_size":5,"use_se":true},{"activation":"hswish","expanded_channels":64,"kernel_size":5,"use_se":true}],"out_channels":16,"stride":2},{"blocks":[{"activation":"hswish","expanded_channels":96,"kernel_size":7,"use_se":true},{"activation":"hswish","expanded_channels":192,"kernel_size":7,"use_se":true}],"out_channels":32,"stride":1},{"blocks":[{"activation":"hswish","expanded_channels":128,"kernel_size":7,"use_se":false},{"activation":"hswish","expanded_channels":256,"kernel_size":7,"use_se":false}],"out_channels":64,"stride":2}],"stem":{"activation":"hswish","out_channels":8,"stride":1},"version":1}',7.56862073543077218396e-01,5.713792,5713792,314170,7.56862073543077218396e-01,0,1,NULL,NULL,'{"stage1.depth": 1, "stage1.channels": 8, "stage1.kernel": 3, "stage1.expansion": 3.0, "stage1.se": false, "stage1.activation": "relu", "stage2.depth": 1, "stage2.channels": 16, "stage2.kernel": 5, "stage2.expansion": 3.0, "stage2.se": true, "stage2.activation": "hswish", "stage3.depth": 3, "stage3.channels": 16, "stage3.kernel": 5, "stage3.expansion": 4.0, "stage3.se": true, "stage3.activation": "hswish", "stage4.depth": 2, "stage4.channels": 32, "stage4.kernel": 7, "stage4.expansion": 6.0, "stage4.se": true, "stage4.activation": "hswish", "stage5.depth": 2, "stage5.channels": 64, "stage5.kernel": 7, "stage5.expansion": 4.0, "stage5.se": false, "stage5.activation": "hswish"}','9c63c1f8ac09f8c8aff66f33ec6d5301',0,NULL,NULL,NULL,NULL,NULL,'2026-11-28 22:55:36.711246','2026-11-28 22:55:36.817828',0.106582,229376,NULL);
INSERT INTO "trials" VALUES(3,1,2,'blocks','complete','feasible-first','0aaf075800c39623','{"head":{"activation":"hswish","conv_channels":288,"hidden_channels":512},"in_channels":1,"num_classes":10,"resolution":32,"stages":[{"blocks":[{"activation":"relu","expanded_channels":24,"kernel_size":3,"use_se":false}],"out_channels":16,"stride":1},{"blocks":[{"activation":"relu","expanded_channels":72,"kernel_size":3,"use_se":false},{"activation":"relu","expanded_channels":112,"kernel_size":3,"use_se":false},{"activation":"relu","expanded_channels":112,"kernel_size":3,"use_se":false}],"out_channels":24,"stride":2},{"blocks":[{"activation":"hswish","expanded_channels":144,"kernel_size":3,"use_se":false},{"activation":"hswish","expanded_channels":144,"kernel_size":3,"use_se":false}],"out_channels":24,"stride":2},{"blocks":[{"activation":"hswish","expanded_channels":96,"kernel_size":5,"use_se":true},{"activation":"hswish","expanded_channels":96,"kernel_size":5,"use_se":true}],"out_channels":24,"stride":1},{"blocks":[{"activation":"hswish","expanded_channels":96,"kernel_size":7,"use_se":true}],"out_channels":48,"stride":2}],"stem":{"activation":"hswish","out_channels":8,"stride":1},"version":1}',7.9950415788574369369e-01,9.23648,9236480,244954,7.9950415788574369369e-01,0,1,NULL,NULL,'{"stage1.depth": 1, "stage1.channels": 16, "stage1.kernel": 3, "stage1.expansion": 3.0, "stage1.se": false, "stage1.activation": "relu", "stage2.depth": 3, "stage2.channels": 24, "stage2.kernel": 3, "stage2.expansion": 4.5, "stage2.se": false, "stage2.activation": "relu", "stage3.depth": 2, "stage3.channels": 24, "stage3.kernel": 3, "stage3.expansion": 6.0, "stage3.se": false, "stage3.activation": "hswish", "stage4.depth": 2, "stage4.channels": 24, "stage4.kernel": 5, "stage4.expansion": 4.0, "stage4.se": true, "stage4.activation": "hswish", "stage5.depth": 1, "stage5.channels": 48, "stage5.kernel": 7, "stage5.expansion": 4.0, "stage5.se": true, "stage5.activation": "hswish"}','4c8acf5682db55883637ea7de3325731',0,NULL,NULL,NULL,NULL,NULL,'2026-11-28 22:55:36.895100','2026-11-28 22:55:37.004439',0.109339,368640,NULL);
INSERT INTO "trials" VALUES(4,1,3,'blocks','complete','feasible-first','1ee15ffcf89b34c2','{"head":{"activation":"hswish","conv_channels":288,"hidden_channels":512},"in_channels":1,"num_classes":10,"resolution":32,"stages":[{"blocks":[{"activation":"hswish","expanded_channels":24,"kernel_size":5,"use_se":false}],"out_channels":8,"stride":1},{"blocks":[{"activation":"hswish","expanded_channels":48,"kernel_size":5,"use_se":false}],"out_channels":16,"stride":2},{"blocks":[{"activation":"relu","expanded_channels":64,"kernel_size":3,"use_se":true}],"out_channels":16,"stride":2},{"blocks":[{"activation":"relu","expanded_channels":64,"kernel_size":3,"use_se":true}],"out_channels":40,"stride":1},{"blocks":[{"activation":"hswish","expanded_channels":240,"kernel_size":7,"use_se":false},{"activation":"hswish","expanded_channels":288,"kernel_size":7,"use_se":false},{"activation":"hswish","expanded_channels":288,"kernel_size":7,"use_se":false}],"out_channels":48,"stride":2}],"stem":{"activation":"hswish","out_channels":8,"stride":1},"version":1}',0.74870498678013,5.310208,5310208,302874,0.74870498678013,0,1,NULL,NULL,'{"stage1.depth": 1, "stage1.channels": 8, "stage1.kernel": 5, "stage1.expansion": 3.0, "stage1.se": false, "stage1.activation": "hswish", "stage2.depth": 1, "stage2.channels": 16, "stage2.kernel": 5, "stage2.expansion": 6.0, "stage2.se": false, "stage2.activation": "hswish", "stage3.depth": 1, "stage3.channels": 16, "stage3.kernel": 3, "stage3.expansion": 4.0, "stage3.se": true, "stage3.activation": "relu", "stage4.depth": 1, "stage4.channels": 40, "stage4.kernel": 3, "stage4.expansion": 4.0, "stage4.se": true, "stage4.activation": "relu", "stage5.depth": 3, "stage5.channels": 48, "stage5.kernel": 7, "stage5.expansion": 6.0, "stage5.se": false, "stage5.activation": "hswish"}','ffb13a876a7a7bcf0a6d6fdbce4f1a88',0,NULL,NULL,NULL,NULL,NULL,'2026-11-28 22:55:37.115430','2026-11-28 22:55:37.236741',0.121311,245760,NULL);
INSERT INTO "trials" VALUES(5,1,4,'blocks','complete','feasible-first','1c5dcbf5fd06f312','{"head":{"activation":"hswish","conv_channels":288,"hidden_channels":512},"in_channels":1,"num_classes":10,"resolution":32,"stages":[{"blocks":[{"activation":"relu","expanded_channels":null,"kernel_size":5,"use_se":true}],"out_channels":8,"stride":1},{"blocks":[{"activation":"hswish","expanded_channels":48,"kernel_size":3,"use_se":true}],"out_channels":16,"stride":2},{"blocks":[{"activation":"hswish","expanded_channels":48,"kernel_size":3,"use_se":false},{"activation":"hswish","expanded_channels":96,"kernel_size":3,"use_se":false},{"activation":"hswish","expanded_channels":96,"kernel_size":3,"use_se":false}],"out_channels":32,"stride":2},{"blocks":[{"activation":"hswish","expanded_channels":96,"kernel_size":7,"use_se":true},{"activation":"hswish","expanded_channels":96,"kernel_size":7,"use_se":true},{"activation":"hswish","expanded_channels":96,"kernel_size":7,"use_se":true}],"out_channels":32,"stride":1},{"blocks":[{"activation":"relu","expanded_channels":96,"kernel_size":7,"use_se":true},{"activation":"relu","expanded_channels":144,"kernel_size":7,"use_se":true}],"out_channels":48,"stride":2}],"stem":{"activation":"hswish","out_channels":8,"stride":1},"version":1}',7.53445558196410791751e-01,5.431936,5431936,288258,7.53445558196410791751e-01,0,1,NULL,NULL,'{"stage1.depth": 1, "stage1.channels": 8, "stage1.kernel": 5, "stage1.expansion": 1.0, "stage1.se": true, "stage1.activation": "relu", "stage2.depth": 1, "stage2.channels": 16, "stage2.kernel": 3, "stage2.expansion": 6.0, "stage2.se": true, "stage2.activation": "hswish", "stage3.depth": 3, "stage3.channels": 32, "stage3.kernel": 3, "stage3.expansion": 3.0, "stage3.se": false, "stage3.activation": "hswish", "stage4.depth": 3, "stage4.channels": 32, "stage4.kernel": 7, "stage4.expansion": 3.0, "stage4.se": true, "stage4.activation": "hswish", "stage5.depth": 2, "stage5.channels": 48, "stage5.kernel": 7, "stage5.expansion": 3.0, "stage5.se": true, "stage5.activation": "relu"}','67c76094ef63eeb2697f933d395ae1fd',0,NULL,NULL,NULL,NULL,NULL,'2026-11-28 22:55:37.327580','2026-11-28 22:55:37.459329',0.131749,245760,NULL);
INSERT INTO "trials" VALUES(6,1,5,'blocks','complete','feasible-first','69b12adc1a9f57a8','{"head":{"activation":"hswish","conv_channels":288,"hidden_channels":512},"in_channels":1,"num_classes":10,"resolution":32,"stages":[{"blocks":[{"activation":"relu","expanded_channels":24,"kernel_size":3,"use_se":true}],"out_channels":8,"stride":1},{"blocks":[{"activation":"relu","expanded_channels":40,"kernel_size":3,"use_se":true},{"activation":"relu","expanded_channels":72,"kernel_size":3,"use_se":true},{"activation":"relu","expanded_channels":72,"kernel_size":3,"use_se":true}],"out_channels":16,"stride":2},{"blocks":[{"activation":"relu","expanded_channels":48,"kernel_size":3,"use_se":true},{"activation":"relu","expanded_channels":48,"kernel_size":3,"use_se":true}],"out_channels":16,"stride":2},{"blocks":[{"activation":"relu","expanded_channels":96,"kernel_size":5,"use_se":true}],"out_channels":40,"stride":1},{"blocks":[{"activation":"hswish","expanded_channels":120,"kernel_size":7,"use_se":true}],"out_channels":64,"stride":2}],"stem":{"activation":"hswish","out_channels":8,"stride":1},"version":1}',7.51206116383855815321e-01,4.67584,4675840,237170,7.51206116383855815321e-01,0,1,NULL,NULL,'{"stage1.depth": 1, "stage1.channels": 8, "stage1.kernel": 3, "stage1.expansion": 3.0, "stage1.se": true, "stage1.activation": "relu", "stage2.depth": 3, "stage2.channels": 16, "stage2.kernel": 3, "stage2.expansion": 4.5, "stage2.se": true, "stage2.activation": "relu", "stage3.depth": 2, "stage3.channels": 16, "stage3.kernel": 3, "stage3.expansion": 3.0, "stage3.se": true, "stage3.activation": "relu", "stage4.depth": 1, "stage4.channels": 40, "stage4.kernel": 5, "stage4.expansion": 6.0, "stage4.se": true, "stage4.activation": "relu", "stage5.depth": 1, "stage5.channels": 64, "stage5.kernel": 7, "stage5.expansion": 3.0, "stage5.se": true, "stage5.activation": "hswish"}','dd9d01e5f956a03c300466d9cb858835',0,NULL,NULL,NULL,NULL,NULL,'2026-11-28 22:55:37.594549','2026-11-28 22:55:37.719406',0.124857,229376,NULL);
INSERT INTO "trials" VALUES(7,1,6,'blocks','complete','feasible-first','972617e1380940cc','{"head":{"activation":"hswish","conv_channels":288,"hidden_channels":512},"in_channels":1,"num_classes":10,"resolution":32,"stages":[{"blocks":[{"activation":"hswish","expanded_channels":null,"kernel_size":3,"use_se":false}],"out_channels":16,"stride":1},{"blocks":[{"activation":"relu","expanded_channels":72,"kernel_size":3,"use_se":false},{"activation":"relu","expanded_channels":72,"kernel_size":3,"use_se":false},{"activation":"relu","expanded_channels":72,"kernel_size":3,"use_se":false}],"out_channels":16,"stride":2},{"blocks":[{"activation":"relu","expanded_channels":64,"kernel_size":7,"use_se":true},{"activation":"relu","expanded_channels":96,"kernel_size":7,"use_se":true}],"out_channels":24,"stride":2},{"blocks":[{"activation":"hswish","expanded_channels":96,"kernel_size":3,"use_se":true},{"activation":"hswish","expanded_channels":160,"kernel_size":3,"use_se":true}],"out_channels":40,"stride":1},{"blocks":[{"activation":"hswish","expanded_channels":160,"kernel_size":3,"use_se":true},{"activation":"hswish","expanded_channels":256,"kernel_size":3,"use_se":true},{"activation":"hswish","expanded_channels":256,"kernel_size":3,"use_se":true}],"out_channels":64,"stride":2}],"stem":{"activation":"hswish","out_channels":8,"stride":1},"version":1}',7.95614943680854058705e-01,8.216064,8216064,415490,7.95614943680854058705e-01,0,1,NULL,NULL,'{"stage1.depth": 1, "stage1.channels": 16, "stage1.kernel": 3, "stage1.expansion": 1.0, "stage1.se": false, "stage1.activation": "hswish", "stage2.depth": 3, "stage2.channels": 16, "stage2.kernel": 3, "stage2.expansion": 4.5, "stage2.se": false, "stage2.activation": "relu", "stage3.depth": 2, "stage3.channels": 24, "stage3.kernel": 7, "stage3.expansion": 4.0, "stage3.se": true, "stage3.activation": "relu", "stage4.depth": 2, "stage4.channels": 40, "stage4.kernel": 3, "stage4.expansion": 4.0, "stage4.se": true, "stage4.activation": "hswish", "stage5.depth": 3, "stage5.channels": 64, "stage5.kernel": 3, "stage5.expansion": 4.0, "stage5.se": true, "stage5.activation": "hswish"}','9e93c5e92b455f79f335d336652ef96d',0,NULL,NULL,NULL,NULL,NULL,'2026-11-28 22:55:37.791132','2026-11-28 22:55:37.898542',0.10741,368640,NULL);
INSERT INTO "trials" VALUES(8,1,7,'blocks','complete','feasible-first','249c0834efb95c6c','{"head":{"activation":"hswish","conv_channels":288,"hidden_channels":512},"in_channels":1,"num_classes":10,"resolution":32,"stages":[{"blocks":[{"activation":"relu","expanded_channels":24,"kernel_size":3,"use_se":true}],"out_channels":16,"stride":1},{"blocks":[{"activation":"hswish","expanded_channels":48,"kernel_size":7,"use_se":true}],"out_channels":24,"stride":2},{"blocks":[{"activation":"relu","expanded_channels":72,"kernel_size":3,"use_se":true},{"activation":"relu","expanded_channels":96,"kernel_size":3,"use_se":true}],"out_channels":32,"stride":2},{"blocks":[{"activation":"hswish","expanded_channels":96,"kernel_size":5,"use_se":true},{"activation":"hswish","expanded_channels":120,"kernel_size":5,"use_se":true}],"out_channels":40,"stride":1},{"blocks":[{"activation":"hswish","expanded_channels":240,"kernel_size":7,"use_se":true},{"activation":"hswish","expanded_channels":240,"kernel_size":7,"use_se":true}],"out_channels":40,"stride":2}],"stem":{"activation":"hswish","out_channels":8,"stride":1},"version":1}',7.83923737931628061836e-01,6.922496,6922496,355042,7.83923737931628061836e-01,0,1,NULL,NULL,'{"stage1.depth": 1, "stage1.channels": 16, "stage1.kernel": 3, "stage1.expansion": 3.0, "stage1.se": true, "stage1.activation": "relu", "stage2.depth": 1, "stage2.channels": 24, "stage2.kernel": 7, "stage2.expansion": 3.0, "stage2.se": true, "stage2.activation": "hswish", "stage3.depth": 2, "stage3.channels": 32, "stage3.kernel": 3, "stage3.expansion": 3.0, "stage3.se": true, "stage3.activation": "relu", "stage4.depth": 2, "stage4.channels": 40, "stage4.kernel": 5, "stage4.expansion": 3.0, "stage4.se": true, "stage4.activation": "hswish", "stage5.depth": 2, "stage5.channels": 40, "stage5.kernel": 7, "stage5.expansion": 6.0, "stage5.se": true, "stage5.activation": "hswish"}','b4752ebc73db5ab1c352371889518ff5',0,NULL,NULL,NULL,NULL,NULL,'2026-11-28 22:55:37.966928','2026-11-28 22:55:38.075284',0.108356,262144,NULL);
INSERT INTO "trials" VALUES(9,1,8,'netadapt','complete','stage2_block1 expansion 72→48','f5c0a6b4c0b5d46b','{"head":{"activation":"hswish","conv_channels":288,"hidden_channels":512},"in_channels":1,"num_classes":10,"resolution":32,"stages":[{"blocks":[{"activation":"relu","expanded_channels":24,"kernel_size":3,"use_se":false}],"out_channels":16,"stride":1},{"blocks":[{"activation":"relu","expanded_channels":48,"kernel_size":3,"use_se":false},{"activation":"relu","expanded_channels":112,"kernel_size":3,"use_se":false},{"activation":"relu","expanded_channels":112,"kernel_size":3,"use_se":false}],"out_channels":24,"stride":2},{"blocks":[{"activation":"hswish","expanded_channels":144,"kernel_size":3,"use_se":false},{"activation":"hswish","expanded_channels":144,"kernel_size":3,"use_se":false}],"out_channels":24,"stride":2},{"blocks":[{"activation":"hswish","expanded_channels":96,"kernel_size":5,"use_se":true},{"activation":"hswish","expanded_channels":96,"kernel_size":5,"use_se":true}],"out_channels":24,"stride":1},{"blocks":[{"activation":"hswish","expanded_channels":96,"kernel_size":7,"use_se":true}],"out_channels":48,"stride":2}],"stem":{"activation":"hswish","out_channels":8,"stride":1},"version":1}',7.94519559961024524064e-01,8.640512,8640512,243682,NULL,0,1,2,1,NULL,'ef2c49aab1b589d4544adf74eaa475b2',0,NULL,NULL,NULL,NULL,NULL,'2026-11-28 22:55:38.105104','2026-11-28 22:55:38.215445',0.110341,262144,NULL);
INSERT INTO "trials" VALUES(10,1,9,'netadapt','complete','stage2_block2 expansion 112→80','176f2194a20c2529','{"head":{"activation":"hswish","conv_channels":288,"hidden_channels":512},"in_channels":1,"num_classes":10,"resolution":32,"stages":[{"blocks":[{"activation":"relu","expanded_channels":24,"kernel_size":3,"use_se":false}],"out_channels":16,"stride":1},{"blocks":[{"activation":"relu","expanded_channels":72,"kernel_size":3,"use_se":false},{"activation":"relu","expanded_channels":80,"kernel_size":3,"use_se":false},{"activation":"relu","expanded_channels":112,"kernel_size":3,"use_se":false}],"out_channels":24,"stride":2},{"blocks":[{"activation":"hswish","expanded_channels":144,"kernel_size":3,"use_se":false},{"activation":"hswish","expanded_channels":144,"kernel_size":3,"use_se":false}],"out_channels":24,"stride":2},{"blocks":[{"activation":"hswish","expanded_channels":96,"kernel_size":5,"use_se":true},{"activation":"hswish","expanded_channels":96,"kernel_size":5,"use_se":true}],"out_channels":24,"stride":1},{"blocks":[{"activation":"hswish","expanded_channels":96,"kernel_size":7,"use_se":true}],"out_channels":48,"stride":2}],"stem":{"activation":"hswish","out_channels":8,"stride":1},"version":1}',7.95645488905000308754e-01,8.769536,8769536,243002,NULL,0,1,2,1,NULL,'d04382bdabc3825613e09c10b01a7a94',0,NULL,NULL,NULL,NULL,NULL,'2026-11-28 22:55:38.222418','2026-11-28 22:55:38.332151',0.109733,368640,NULL);
INSERT INTO "trials" VALUES(11,1,10,'netadapt','complete','stage2_block3 expansion 112→80','6a7f980c9ca453d3','{"head":{"activation":"hswish","conv_channels":288,"hidden_channels":512},"in_channels":1,"num_classes":10,"resolution":32,"stages":[{"blocks":[{"activation":"relu","expanded_channels":24,"kernel_size":3,"use_se":false}],"out_channels":16,"stride":1},{"blocks":[{"activation":"relu","expanded_channels":72,"kernel_size":3,"use_se":false},{"activation":"relu","expanded_channels":112,"kernel_size":3,"use_se":false},{"activation":"relu","expanded_channels":80,"kernel_size":3,"use_se":false}],"out_channels":24,"stride":2},{"blocks":[{"activation":"hswish","expanded_channels":144,"kernel_size":3,"use_se":false},{"activation":"hswish","expanded_channels":144,"kernel_size":3,"use_se":false}],"out_channels":24,"stride":2},{"blocks":[{"activation":"hswish","expanded_channels":96,"kernel_size":5,"use_se":true},{"activation":"hswish","expanded_channels":96,"kernel_size":5,"use_se":true}],"out_channels":24,"stride":1},{"blocks":[{"activation":"hswish","expanded_channels":96,"kernel_size":7,"use_se":true}],"out_channels":48,"stride":2}],"stem":{"activation":"hswish","out_channels":8,"stride":1},"version":1}',7.95645488905000308754e-01,8.769536,8769536,243002,NULL,0,1,2,1,NULL,'480864d70fe0422b023d16fcbe38ddee',0,NULL,NULL,NULL,NULL,NULL,'2026-11-28 22:55:38.337177','2026-11-28 22:55:38.443870',0.106693,368640,NULL);
INSERT INTO "trials" VALUES(12,1,11,'netadapt','complete','stage3_block1 expansion 144→88','14b8893edc929b76','{"head":{"activation":"hswish","conv_channels":288,"hidden_channels":512},"in_channels":1,"num_classes":10,"resolution":32,"stages":[{"blocks":[{"activation":"relu","expanded_channels":24,"kernel_size":3,"use_se":false}],"out_channels":16,"stride":1},{"blocks":[{"activation":"relu","expanded_channels":72,"kernel_size":3,"use_se":false},{"activation":"relu","expanded_channels":112,"kernel_size":3,"use_se":false},{"activation":"relu","expanded_channels":112,"kernel_size":3,"use_se":false}],"out_channels":24,"stride":2},{"blocks":[{"activation":"hswish","expanded_channels":88,"kernel_size":3,"use_se":false},{"activation":"hswish","expanded_channels":144,"kernel_size":3,"use_se":false}],"out_channels":24,"stride":2},{"blocks":[{"activation":"hswish","expanded_channels":96,"kernel_size":5,"use_se":true},{"activation":"hswish","expanded_channels":96,"kernel_size":5,"use_se":true}],"out_channels":24,"stride":1},{"blocks":[{"activation":"hswish","expanded_channels":96,"kernel_size":7,"use_se":true}],"out_channels":48,"stride":2}],"stem":{"activation":"hswish","out_channels":8,"stride":1},"version":1}',7.95685201905599215344e-01,8.774144,8774144,241538,NULL,0,1,2,1,NULL,'fbff70edc9df2852ccc90901b0121d42',0,NULL,NULL,NULL,NULL,NULL,'2026-11-28 22:55:38.450882','2026-11-28 22:55:38.555992',0.10511,368640,NULL);
INSERT INTO "trials" VALUES(13,1,12,'netadapt','complete','stage1 width 16→8','260db21fed6bcf17','{"head":{"activation":"hswish","conv_channels":288,"hidden_channels":512},"in_channels":1,"num_classes":10,"resolution":32,"stages":[{"blocks":[{"activation":"relu","expanded_channels":24,"kernel_size":3,"use_se":false}],"out_channels":8,"stride":1},{"blocks":[{"activation":"relu","expanded_channels":72,"kernel_size":3,"use_se":false},{"activation":"relu","expanded_channels":112,"kernel_size":3,"use_se":false},{"activation":"relu","expanded_channels":112,"kernel_size":3,"use_se":false}],"out_channels":24,"stride":2},{"blocks":[{"activation":"hswish","expanded_channels":144,"kernel_size":3,"use_se":false},{"activation":"hswish","expanded_channels":144,"kernel_size":3,"use_se":false}],"out_channels":24,"stride":2},{"blocks":[{"activation":"hswish","expanded_channels":96,"kernel_size":5,"use_se":true},{"activation":"hswish","expanded_channels":96,"kernel_size":5,"use_se":true}],"out_channels":24,"stride":1},{"blocks":[{"activation":"hswish","expanded_channels":96,"kernel_size":7,"use_se":true}],"out_channels":48,"stride":2}],"stem":{"activation":"hswish","out_channels":8,"stride":1},"version":1}',7.92806659644051503477e-01,8.450048,8450048,244170,NULL,0,1,2,1,NULL,'18ad211e0d1f580621be4fb8ffec4e94',0,NULL,NULL,NULL,NULL,NULL,'2026-11-28 22:55:38.562859','2026-11-28 22:55:38.668679',0.10582,368640,NULL);
INSERT INTO "trials" VALUES(14,1,13,'netadapt','complete','stage2 width 24→16','fed2d392c63322f1','{"head":{"activation":"hswish","conv_channels":288,"hidden_channels":512},"in_channels":1,"num_classes":10,"resolution":32,"stages":[{"blocks":[{"activation":"relu","expanded_channels":24,"kernel_size":3,"use_se":false}],"out_channels":16,"stride":1},{"blocks":[{"activation":"relu","expanded_channels":72,"kernel_size":3,"use_se":false},{"activation":"relu","expanded_channels":112,"kernel_size":3,"use_se":false},{"activation":"relu","expanded_channels":112,"kernel_size":3,"use_se":false}],"out_channels":16,"stride":2},{"blocks":[{"activation":"hswish","expanded_channels":144,"kernel_size":3,"use_se":false},{"activation":"hswish","expanded_channels":144,"kernel_size":3,"use_se":false}],"out_channels":24,"stride":2},{"blocks":[{"activation":"hswish","expanded_channels":96,"kernel_size":5,"use_se":true},{"activation":"hswish","expanded_channels":96,"kernel_size":5,"use_se":true}],"out_channels":24,"stride":1},{"blocks":[{"activation":"hswish","expanded_channels":96,"kernel_size":7,"use_se":true}],"out_channels":48,"stride":2}],"stem":{"activation":"hswish","out_channels":8,"stride":1},"version":1}',7.87250664195642935183e-01,7.876608,7876608,239594,NULL,0,1,2,1,NULL,'3f34b248bb12b7d0aa7c08ce8b9ded86',0,NULL,NULL,NULL,NULL,NULL,'2026-11-28 22:55:38.676123','2026-11-28 22:55:38.785869',0.109746,368640,NULL);
INSERT INTO "trials" VALUES(15,1,14,'netadapt','complete','stage3+stage4 width 24→16','932ccba612b14f6e','{"head":{"activation":"hswish","conv_channels":288,"hidden_channels":512},"in_channels":1,"num_classes":10,"resolution":32,"stages":[{"blocks":[{"activation":"relu","expanded_channels":24,"kernel_size":3,"use_se":false}],"out_channels":16,"stride":1},{"blocks":[{"activation":"relu","expanded_channels":72,"kernel_size":3,"use_se":false},{"activation":"relu","expanded_channels":112,"kernel_size":3,"use_se":false},{"activation":"relu","expanded_channels":112,"kernel_size":3,"use_se":false}],"out_channels":24,"stride":2},{"blocks":[{"activation":"hswish","expanded_channels":144,"kernel_size":3,"use_se":false},{"activation":"hswish","expanded_channels":144,"kernel_size":3,"use_se":false}],"out_channels":16,"stride":2},{"blocks":[{"activation":"hswish","expanded_channels":96,"kernel_size":5,"use_se":true},{"activation":"hswish","expanded_channels":96,"kernel_size":5,"use_se":true}],"out_channels":16,"stride":1},{"blocks":[{"activation":"hswish","expanded_channels":96,"kernel_size":7,"use_se":true}],"out_channels":48,"stride":2}],"stem":{"activation":"hswish","out_channels":8,"stride":1},"version":1}',7.95645488905000308754e-01,8.769536,8769536,237594,NULL,0,1,2,1,NULL,'cbe7d02995edbd343d66f3201ed6bf71',0,NULL,NULL,NULL,NULL,NULL,'2026-11-28 22:55:38.791420','2026-11-28 22:55:38.897589',0.106169,368640,NULL);
INSERT INTO "trials" VALUES(16,1,15,'netadapt','complete','stage2_block1 expansion 72→48','34ad7742668c7e46','{"head":{"activation":"hswish","conv_channels":288,"hidden_channels":512},"in_channels":1,"num_classes":10,"resolution":32,"stages":[{"blocks":[{"activation":"relu","expanded_channels":24,"kernel_size":3,"use_se":false}],"out_channels":16,"stride":1},{"blocks":[{"activation":"relu","expanded_channels":48,"kernel_size":3,"use_se":false},{"activation":"relu","expanded_channels":112,"kernel_size":3,"use_se":false},{"activation":"relu","expanded_channels":112,"kernel_size":3,"use_se":false}],"out_channels":24,"stride":2},{"blocks":[{"activation":"hswish","expanded_channels":88,"kernel_size":3,"use_se":false},{"activation":"hswish","expanded_channels":144,"kernel_size":3,"use_se":false}],"out_channels":24,"stride":2},{"blocks":[{"activation":"hswish","expanded_channels":96,"kernel_size":5,"use_se":true},{"activation":"hswish","expanded_channels":96,"kernel_size":5,"use_se":true}],"out_channels":24,"stride":1},{"blocks":[{"activation":"hswish","expanded_channels":96,"kernel_size":7,"use_se":true}],"out_channels":48,"stride":2}],"stem":{"activation":"hswish","out_channels":8,"stride":1},"version":1}',7.90250569060704122215e-01,8.178176,8178176,240266,NULL,0,1,11,2,NULL,'15a3150684fde116829f2dc7ac19d15d',0,NULL,NULL,NULL,NULL,NULL,'2026-11-28 22:55:38.952508','2026-11-28 22:55:39.067612',0.115104,262144,NULL);
INSERT INTO "trials" VALUES(17,1,16,'netadapt','complete','stage2_block2 expansion 112→80','21db2a585e9fa595','{"head":{"activation":"hswish","conv_channels":288,"hidden_channels":512},"in_channels":1,"num_classes":10,"resolution":32,"stages":[{"blocks":[{"activation":"relu","expanded_channels":24,"kernel_size":3,"use_se":false}],"out_channels":16,"stride":1},{"blocks":[{"activation":"relu","expanded_channels":72,"kernel_size":3,"use_se":false},{"activation":"relu","expanded_channels":80,"kernel_size":3,"use_se":false},{"activation":"relu","expanded_channels":112,"kernel_size":3,"use_se":false}],"out_channels":24,"stride":2},{"blocks":[{"activation":"hswish","expanded_channels":88,"kernel_size":3,"use_se":false},{"activation":"hswish","expanded_channels":144,"kernel_size":3,"use_se":false}],"out_channels":24,"stride":2},{"blocks":[{"activation":"hswish","expanded_channels":96,"kernel_size":5,"use_se":true},{"activation":"hswish","expanded_channels":96,"kernel_size":5,"use_se":true}],"out_channels":24,"stride":1},{"blocks":[{"activation":"hswish","expanded_channels":96,"kernel_size":7,"use_se":true}],"out_channels":48,"stride":2}],"stem":{"activation":"hswish","out_channels":8,"stride":1},"version":1}',7.9148044085687685456e-01,8.3072,8307200,239586,NULL,0,1,11,2,NULL,'f685657b53e45eac51886172a223941b',0,NULL,NULL,NULL,NULL,NULL,'2026-11-28 22:55:39.069933','2026-11-28 22:55:39.180234',0.110301,368640,NULL);
INSERT INTO "trials" VALUES(18,1,17,'netadapt','complete','stage2_block3 expansion 112→80','b9e4b3d42e9f56f5','{"head":{"activation":"hswish","conv_channels":288,"hidden_channels":512},"in_channels":1,"num_classes":10,"resolution":32,"stages":[{"blocks":[{"activation":"relu","expanded_channels":24,"kernel_size":3,"use_se":false}],"out_channels":16,"stride":1},{"blocks":[{"activation":"relu","expanded_channels":72,"kernel_size":3,"use_se":false},{"activation":"relu","expanded_channels":112,"kernel_size":3,"use_se":false},{"activation":"relu","expanded_channels":80,"kernel_size":3,"use_se":false}],"out_channels":24,"stride":2},{"blocks":[{"activation":"hswish","expanded_channels":88,"kernel_size":3,"use_se":false},{"activation":"hswish","expanded_channels":144,"kernel_size":3,"use_se":false}],"out_channels":24,"stride":2},{"blocks":[{"activation":"hswish","expanded_channels":96,"kernel_size":5,"use_se":true},{"activation":"hswish","expanded_channels":96,"kernel_size":5,"use_se":true}],"out_channels":24,"stride":1},{"blocks":[{"activation":"hswish","expanded_channels":96,"kernel_size":7,"use_se":true}],"out_channels":48,"stride":2}],"stem":{"activation":"hswish","out_channels":8,"stride":1},"version":1}',7.9148044085687685456e-01,8.3072,8307200,239586,NULL,0,1,11,2,NULL,'2c81f4d783c2bea97b200d6571b45274',0,NULL,NULL,NULL,NULL,NULL,'2026-11-28 22:55:39.182002','2026-11-28 22:55:39.305230',0.123228,368640,NULL);
INSERT INTO "trials" VALUES(19,1,18,'netadapt','complete','stage1 width 16→8','c041ea4d5988db23','{"head":{"activation":"hswish","conv_channels":288,"hidden_channels":512},"in_channels":1,"num_classes":10,"resolution":32,"stages":[{"blocks":[{"activation":"relu","expanded_channels":24,"kernel_size":3,"use_se":false}],"out_channels":8,"stride":1},{"blocks":[{"activation":"relu","expanded_channels":72,"kernel_size":3,"use_se":false},{"activation":"relu","expanded_channels":112,"kernel_size":3,"use_se":false},{"activation":"relu","expanded_channels":112,"kernel_size":3,"use_se":false}],"out_channels":24,"stride":2},{"blocks":[{"activation":"hswish","expanded_channels":88,"kernel_size":3,"use_se":false},{"activation":"hswish","expanded_channels":144,"kernel_size":3,"use_se":false}],"out_channels":24,"stride":2},{"blocks":[{"activation":"hswish","expanded_channels":96,"kernel_size":5,"use_se":true},{"activation":"hswish","expanded_channels":96,"kernel_size":5,"use_se":true}],"out_channels":24,"stride":1},{"blocks":[{"activation":"hswish","expanded_channels":96,"kernel_size":7,"use_se":true}],"out_channels":48,"stride":2}],"stem":{"activation":"hswish","out_channels":8,"stride":1},"version":1}',7.88376968819285206535e-01,7.987712,7987712,240754,NULL,0,1,11,2,NULL,'c657721b1ac68294f7e611bca4db936c',0,NULL,NULL,NULL,NULL,NULL,'2026-11-28 22:55:39.323492','2026-11-28 22:55:39.430858',0.107366,368640,NULL);
INSERT INTO "trials" VALUES(20,1,19,'netadapt','complete','stage2 width 24→16','4dab3cda9db29ee3','{"head":{"activation":"hswish","conv_channels":288,"hidden_channels":512},"in_channels":1,"num_classes":10,"resolution":32,"stages":[{"blocks":[{"activation":"relu","expanded_channels":24,"kernel_size":3,"use_se":false}],"out_channels":16,"stride":1},{"blocks":[{"activation":"relu","expanded_channels":72,"kernel_size":3,"use_se":false},{"activation":"relu","expanded_channels":112,"kernel_size":3,"use_se":false},{"activation":"relu","expanded_channels":112,"kernel_size":3,"use_se":false}],"out_channels":16,"stride":2},{"blocks":[{"activation":"hswish","expanded_channels":88,"kernel_size":3,"use_se":false},{"activation":"hswish","expanded_channels":144,"kernel_size":3,"use_se":false}],"out_channels":24,"stride":2},{"blocks":[{"activation":"hswish","expanded_channels":96,"kernel_size":5,"use_se":true},{"activation":"hswish","expanded_channels":96,"kernel_size":5,"use_se":true}],"out_channels":24,"stride":1},{"blocks":[{"activation":"hswish","expanded_channels":96,"kernel_size":7,"use_se":true}],"out_channels":48,"stride":2}],"stem":{"activation":"hswish","out_channels":8,"stride":1},"version":1}',7.83556753307811160169e-01,7.52896,7528960,236626,NULL,0,1,11,2,NULL,'04e1ecada6b6e3624cfbbefc44bc1eac',0,NULL,NULL,NULL,NULL,NULL,'2026-11-28 22:55:39.440265','2026-11-28 22:55:39.552659',0.112394,368640,NULL);
INSERT INTO "trials" VALUES(21,1,20,'netadapt','complete','stage2_block1 expansion 72→48','357f0daa32a8988f','{"head":{"activation":"hswish","conv_channels":288,"hidden_channels":512},"in_channels":1,"num_classes":10,"resolution":32,"stages":[{"blocks":[{"activation":"relu","expanded_channels":24,"kernel_size":3,"use_se":false}],"out_channels":16,"stride":1},{"blocks":[{"activation":"relu","expanded_channels":48,"kernel_size":3,"use_se":false},{"activation":"relu","expanded_channels":80,"kernel_size":3,"use_se":false},{"activation":"relu","expanded_channels":112,"kernel_size":3,"use_se":false}],"out_channels":24,"stride":2},{"blocks":[{"activation":"hswish","expanded_channels":88,"kernel_size":3,"use_se":false},{"activation":"hswish","expanded_channels":144,"kernel_size":3,"use_se":false}],"out_channels":24,"stride":2},{"blocks":[{"activation":"hswish","expanded_channels":96,"kernel_size":5,"use_se":true},{"activation":"hswish","expanded_channels":96,"kernel_size":5,"use_se":true}],"out_channels":24,"stride":1},{"blocks":[{"activation":"hswish","expanded_channels":96,"kernel_size":7,"use_se":true}],"out_channels":48,"stride":2}],"stem":{"activation":"hswish","out_channels":8,"stride":1},"version":1}',7.85526453492203735606e-01,7.711232,7711232,238314,NULL,0,1,16,3,NULL,'e668fbe947e5182f0ed15bcf74b4661a',0,NULL,NULL,NULL,NULL,NULL,'2026-11-28 22:55:39.614448','2026-11-28 22:55:39.727155',0.112707,262144,NULL);
INSERT INTO "trials" VALUES(22,1,21,'netadapt','complete','stage2_block2 expansion 80→48','4ec58351c2652045','{"head":{"activation":"hswish","conv_channels":288,"hidden_channels":512},"in_channels":1,"num_classes":10,"resolution":32,"stages":[{"blocks":[{"activation":"relu","expanded_channels":24,"kernel_size":3,"use_se":false}],"out_channels":16,"stride":1},{"blocks":[{"activation":"relu","expanded_channels":72,"kernel_size":3,"use_se":false},{"activation":"relu","expanded_channels":48,"kernel_size":3,"use_se":false},{"activation":"relu","expanded_channels":112,"kernel_size":3,"use_se":false}],"out_channels":24,"stride":2},{"blocks":[{"activation":"hswish","expanded_channels":88,"kernel_size":3,"use_se":false},{"activation":"hswish","expanded_channels":144,"kernel_size":3,"use_se":false}],"out_channels":24,"stride":2},{"blocks":[{"activation":"hswish","expanded_channels":96,"kernel_size":5,"use_se":true},{"activation":"hswish","expanded_channels":96,"kernel_size":5,"use_se":true}],"out_channels":24,"stride":1},{"blocks":[{"activation":"hswish","expanded_channels":96,"kernel_size":7,"use_se":true}],"out_channels":48,"stride":2}],"stem":{"activation":"hswish","out_channels":8,"stride":1},"version":1}',7.86876627599932487733e-01,7.840256,7840256,237634,NULL,0,1,16,3,NULL,'24ca8e77cf8416bd0083d139d83befd0',0,NULL,NULL,NULL,NULL,NULL,'2026-11-28 22:55:39.735748','2026-11-28 22:55:39.862744',0.126996,368640,NULL);
INSERT INTO "trials" VALUES(23,1,22,'netadapt','complete','stage2_block3 expansion 112→80','6baf84bb4e5e7170','{"head":{"activation":"hswish","conv_channels":288,"hidden_channels":512},"in_channels":1,"num_classes":10,"resolution":32,"stages":[{"blocks":[{"activation":"relu","expanded_channels":24,"kernel_size":3,"use_se":false}],"out_channels":16,"stride":1},{"blocks":[{"activation":"relu","expanded_channels":72,"kernel_size":3,"use_se":false},{"activation":"relu","expanded_channels":80,"kernel_size":3,"use_se":false},{"activation":"relu","expanded_channels":80,"kernel_size":3,"use_se":false}],"out_channels":24,"stride":2},{"blocks":[{"activation":"hswish","expanded_channels":88,"kernel_size":3,"use_se":false},{"activation":"hswish","expanded_channels":144,"kernel_size":3,"use_se":false}],"out_channels":24,"stride":2},{"blocks":[{"activation":"hswish","expanded_channels":96,"kernel_size":5,"use_se":true},{"activation":"hswish","expanded_channels":96,"kernel_size":5,"use_se":true}],"out_channels":24,"stride":1},{"blocks":[{"activation":"hswish","expanded_channels":96,"kernel_size":7,"use_se":true}],"out_channels":48,"stride":2}],"stem":{"activation":"hswish","out_channels":8,"stride":1},"version":1}',7.86876627599932487733e-01,7.840256,7840256,237634,NULL,0,1,16,3,NULL,'e834b56258808a4b5f67316c552ccebc',0,NULL,NULL,NULL,NULL,NULL,'2026-11-28 22:55:39.865464','2026-11-28 22:55:39.978157',0.112693,368640,NULL);
INSERT INTO "trials" VALUES(24,1,23,'netadapt','complete','stage1 width 16→8','623dbfc8f06c294f','{"head":{"activation":"hswish","conv_channels":288,"hidden_channels":512},"in_channels":1,"num_classes":10,"resolution":32,"stages":[{"blocks":[{"activation":"relu","expanded_channels":24,"kernel_size":3,"use_se":false}],"out_channels":8,"stride":1},{"blocks":[{"activation":"relu","expanded_channels":72,"kernel_size":3,"use_se":false},{"activation":"relu","expanded_channels":80,"kernel_size":3,"use_se":false},{"activation":"relu","expanded_channels":112,"kernel_size":3,"use_se":false}],"out_channels":24,"stride":2},{"blocks":[{"activation":"hswish","expanded_channels":88,"kernel_size":3,"use_se":false},{"activation":"hswish","expanded_channels":144,"kernel_size":3,"use_se":false}],"out_channels":24,"stride":2},{"blocks":[{"activation":"hswish","expanded_channels":96,"kernel_size":5,"use_se":true},{"activation":"hswish","expanded_channels":96,"kernel_size":5,"use_se":true}],"out_channels":24,"stride":1},{"blocks":[{"activation":"hswish","expanded_channels":96,"kernel_size":7,"use_se":true}],"out_channels":48,"stride":2}],"stem":{"activation":"hswish","out_channels":8,"stride":1},"version":1}',7.83466456487543871922e-01,7.520768,7520768,238802,NULL,0,1,16,3,NULL,'66cfff91c52253e151186c04de1926ad',0,NULL,NULL,NULL,NULL,NULL,'2026-11-28 22:55:39.988498','2026-11-28 22:55:40.098530',0.110032,368640,NULL);
INSERT INTO "trials" VALUES(25,1,24,'netadapt','complete','stage2 width 24→16','ddad2e3272706e6c','{"head":{"activation":"hswish","conv_channels":288,"hidden_channels":512},"in_channels":1,"num_classes":10,"resolution":32,"stages":[{"blocks":[{"activation":"relu","expanded_channels":24,"kernel_size":3,"use_se":false}],"out_channels":16,"stride":1},{"blocks":[{"activation":"relu","expanded_channels":72,"kernel_size":3,"use_se":false},{"activation":"relu","expanded_channels":80,"kernel_size":3,"use_se":false},{"activation":"relu","expanded_channels":112,"kernel_size":3,"use_se":false}],"out_channels":16,"stride":2},{"blocks":[{"activation":"hswish","expanded_channels":88,"kernel_size":3,"use_se":false},{"activation":"hswish","expanded_channels":144,"kernel_size":3,"use_se":false}],"out_channels":24,"stride":2},{"blocks":[{"activation":"hswish","expanded_channels":96,"kernel_size":5,"use_se":true},{"activation":"hswish","expanded_channels":96,"kernel_size":5,"use_se":true}],"out_channels":24,"stride":1},{"blocks":[{"activation":"hswish","expanded_channels":96,"kernel_size":7,"use_se":true}],"out_channels":48,"stride":2}],"stem":{"activation":"hswish","out_channels":8,"stride":1},"version":1}',7.79722622909733931173e-01,7.193088,7193088,235186,NULL,0,1,16,3,NULL,'b40a91460b0936e8e27ac6de59eb9a44',0,NULL,NULL,NULL,NULL,NULL,'2026-11-28 22:55:40.108215','2026-11-28 22:55:40.219257',0.111042,368640,NULL);
INSERT INTO "trials" VALUES(26,3,0,'blocks','complete','reference','5ef9f385e600f181','{"head":{"activation":"hswish","conv_channels":288,"hidden_channels":512},"in_channels":1,"num_classes":10,"resolution":32,"stages":[{"blocks":[{"activation":"relu","expanded_channels":null,"kernel_size":3,"use_se":true}],"out_channels":8,"stride":1},{"blocks":[{"activation":"relu","expanded_channels":40,"kernel_size":3,"use_se":false},{"activation":"relu","expanded_channels":48,"kernel_size":3,"use_se":false}],"out_channels":16,"stride":2},{"blocks":[{"activation":"hswish","expanded_channels":48,"kernel_size":5,"use_se":true},{"activation":"hswish","expanded_channels":120,"kernel_size":5,"use_se":true},{"activation":"hswish","expanded_channels":120,"kernel_size":5,"use_se":true}],"out_channels":24,"stride":2},{"blocks":[{"activation":"hswish","expanded_channels":64,"kernel_size":5,"use_se":true},{"activation":"hswish","expanded_channels":72,"kernel_size":5,"use_se":true}],"out_channels":24,"stride":1},{"blocks":[{"activation":"hswish","expanded_channels":144,"kernel_size":5,"use_se":true},{"activation":"hswish","expanded_channels":288,"kernel_size":5,"use_se":true},{"activation":"hswish","expanded_channels":288,"kernel_size":5,"use_se":true}],"out_channels":48,"stride":2}],"stem":{"activation":"hswish","out_channels":8,"stride":1},"version":1}',7.58356683215416382815e-01,5.399552,5399552,409250,7.58356683215416382815e-01,0,1,NULL,NULL,NULL,'8b0729cc4322557337136199e0a3f44d',0,NULL,NULL,NULL,NULL,NULL,'2026-11-28 22:56:07.266984','2026-11-28 22:56:08.832538',1.565554,204800,NULL);
INSERT INTO "trials" VALUES(27,3,1,'blocks','complete','feasible-first','d12cf47337d6c962','{"head":{"activation":"hswish","conv_channels":288,"hidden_channels":512},"in_channels":1,"num_classes":10,"resolution":32,"stages":[{"blocks":[{"activation":"relu","expanded_channels":24,"kernel_size":3,"use_se":false}],"out_channels":8,"stride":1},{"blocks":[{"activation":"hswish","expanded_channels":24,"kernel_size":5,"use_se":true}],"out_channels":16,"stride":2},{"blocks":[{"activation":"hswish","expanded_channels":64,"kernel_size":5,"use_se":true},{"activation":"hswish","expanded_channels":64,"kernel_size":5,"use_se":true},{"activation":"hswish","expanded_channels":64,"kernel_size":5,"use_se":true}],"out_channels":16,"stride":2},{"blocks":[{"activation":"hswish","expanded_channels":96,"kernel_size":7,"use_se":true},{"activation":"hswish","expanded_channels":192,"kernel_size":7,"use_se":true}],"out_channels":32,"stride":1},{"blocks":[{"activation":"hswish","expanded_channels":128,"kernel_size":7,"use_se":false},{"activation":"hswish","expanded_channels":256,"kernel_size":7,"use_se":false}],"out_channels":64,"stride":2}],"stem":{"activation":"hswish","out_channels":8,"stride":1},"version":1}',7.56862073543077218396e-01,5.713792,5713792,314170,7.56862073543077218396e-01,0,1,NULL,NULL,'{"stage1.depth": 1, "stage1.channels": 8, "stage1.kernel": 3, "stage1.expansion": 3.0, "stage1.se": false, "stage1.activation": "relu", "stage2.depth": 1, "stage2.channels": 16, "stage2.kernel": 5, "stage2.expansion": 3.0, "stage2.se": true, "stage2.activation": "hswish", "stage3.depth": 3, "stage3.channels": 16, "stage3.kernel": 5, "stage3.expansion": 4.0, "stage3.se": true, "stage3.activation": "hswish", "stage4.depth": 2, "stage4.channels": 32, "stage4.kernel": 7, "stage4.expansion": 6.0, "stage4.se": true, "stage4.activation": "hswish", "stage5.depth": 2, "stage5.channels": 64, "stage5.kernel": 7, "stage5.expansion": 4.0, "stage5.se": false, "stage5.activation": "hswish"}','9c63c1f8ac09f8c8aff66f33ec6d5301',0,NULL,NULL,NULL,NULL,NULL,'2026-11-28 22:56:09.050583','2026-11-28 22:56:09.200456',0.149873,229376,NULL);
INSERT INTO "trials" VALUES(28,3,2,'blocks','complete','feasible-first','0aaf075800c39623','{"head":{"activation":"hswish","conv_channels":288,"hidden_channels":512},"in_channels":1,"num_classes":10,"resolution":32,"stages":[{"blocks":[{"activation":"relu","expanded_channels":24,"kernel_size":3,"use_se":false}],"out_channels":16,"stride":1},{"blocks":[{"activation":"relu","expanded_channels":72,"kernel_size":3,"use_se":false},{"activation":"relu","expanded_channels":112,"kernel_size":3,"use_se":false},{"activation":"relu","expanded_channels":112,"kernel_size":3,"use_se":false}],"out_channels":24,"stride":2},{"blocks":[{"activation":"hswish","expanded_channels":144,"kernel_size":3,"use_se":false},{"activation":"hswish","expanded_channels":144,"kernel_size":3,"use_se":false}],"out_channels":24,"stride":2},{"blocks":[{"activation":"hswish","expanded_channels":96,"kernel_size":5,"use_se":true},{"activation":"hswish","expanded_channels":96,"kernel_size":5,"use_se":true}],"out_channels":24,"stride":1},{"blocks":[{"activation":"hswish","expanded_channels":96,"kernel_size":7,"use_se":true}],"out_channels":48,"stride":2}],"stem":{"activation":"hswish","out_channels":8,"stride":1},"version":1}',7.9950415788574369369e-01,9.23648,9236480,244954,7.9950415788574369369e-01,0,1,NULL,NULL,'{"stage1.depth": 1, "stage1.channels": 16, "stage1.kernel": 3, "stage1.expansion": 3.0, "stage1.se": false, "stage1.activation": "relu", "stage2.depth": 3, "stage2.channels": 24, "stage2.kernel": 3, "stage2.expansion": 4.5, "stage2.se": false, "stage2.activation": "relu", "stage3.depth": 2, "stage3.channels": 24, "stage3.kernel": 3, "stage3.expansion": 6.0, "stage3.se": false, "stage3.activation": "hswish", "stage4.depth": 2, "stage4.channels": 24, "stage4.kernel": 5, "stage4.expansion": 4.0, "stage4.se": true, "stage4.activation": "hswish", "stage5.depth": 1, "stage5.channels": 48, "stage5.kernel": 7, "stage5.expansion": 4.0, "stage5.se": true, "stage5.activation": "hswish"}','4c8acf5682db55883637ea7de3325731',0,NULL,NULL,NULL,NULL,NULL,'2026-11-28 22:56:09.299197','2026-11-28 22:56:09.408781',0.109584,368640,NULL);
INSERT INTO "trials" VALUES(29,3,3,'blocks','complete','feasible-first','1ee15ffcf89b34c2','{"head":{"activation":"hswish","conv_channels":288,"hidden_channels":512},"in_channels":1,"num_classes":10,"resolution":32,"stages":[{"blocks":[{"activation":"hswish","expanded_channels":24,"kernel_size":5,"use_se":false}],"out_channels":8,"stride":1},{"blocks":[{"activation":"hswish","expanded_channels":48,"kernel_size":5,"use_se":false}],"out_channels":16,"stride":2},{"blocks":[{"activation":"relu","expanded_channels":64,"kernel_size":3,"use_se":true}],"out_channels":16,"stride":2},{"blocks":[{"activation":"relu","expanded_channels":64,"kernel_size":3,"use_se":true}],"out_channels":40,"stride":1},{"blocks":[{"activation":"hswish","expanded_channels":240,"kernel_size":7,"use_se":false},{"activation":"hswish","expanded_channels":288,"kernel_size":7,"use_se":false},{"activation":"hswish","expanded_channels":288,"kernel_size":7,"use_se":false}],"out_channels":48,"stride":2}],"stem":{"activation":"hswish","out_channels":8,"stride":1},"version":1}',0.74870498678013,5.310208,5310208,302874,0.74870498678013,0,1,NULL,NULL,'{"stage1.depth": 1, "stage1.channels": 8, "stage1.kernel": 5, "stage1.expansion": 3.0, "stage1.se": false, "stage1.activation": "hswish", "stage2.depth": 1, "stage2.channels": 16, "stage2.kernel": 5, "stage2.expansion": 6.0, "stage2.se": false, "stage2.activation": "hswish", "stage3.depth": 1, "stage3.channels": 16, "stage3.kernel": 3, "stage3.expansion": 4.0, "stage3.se": true, "stage3.activation": "relu", "stage4.depth": 1, "stage4.channels": 40, "stage4.kernel": 3, "stage4.expansion": 4.0, "stage4.se": true, "stage4.activation": "relu", "stage5.depth": 3, "stage5.channels": 48, "stage5.kernel": 7, "stage5.expansion": 6.0, "stage5.se": false, "stage5.activation": "hswish"}','ffb13a876a7a7bcf0a6d6fdbce4f1a88',0,NULL,NULL,NULL,NULL,NULL,'2026-11-28 22:56:09.519180','2026-11-28 22:56:09.639382',0.120202,245760,NULL);
INSERT INTO "trials" VALUES(30,3,4,'blocks','complete','feasible-first','1c5dcbf5fd06f312','{"head":{"activation":"hswish","conv_channels":288,"hidden_channels":512},"in_channels":1,"num_classes":10,"resolution":32,"stages":[{"blocks":[{"activation":"relu","expanded_channels":null,"kernel_size":5,"use_se":true}],"out_channels":8,"stride":1},{"blocks":[{"activation":"hswish","expanded_channels":48,"kernel_size":3,"use_se":true}],"out_channels":16,"stride":2},{"blocks":[{"activation":"hswish","expanded_channels":48,"kernel_size":3,"use_se":false},{"activation":"hswish","expanded_channels":96,"kernel_size":3,"use_se":false},{"activation":"hswish","expanded_channels":96,"kernel_size":3,"use_se":false}],"out_channels":32,"stride":2},{"blocks":[{"activation":"hswish","expanded_channels":96,"kernel_size":7,"use_se":true},{"activation":"hswish","expanded_channels":96,"kernel_size":7,"use_se":true},{"activation":"hswish","expanded_channels":96,"kernel_size":7,"use_se":true}],"out_channels":32,"stride":1},{"blocks":[{"activation":"relu","expanded_channels":96,"kernel_size":7,"use_se":true},{"activation":"relu","expanded_channels":144,"kernel_size":7,"use_se":true}],"out_channels":48,"stride":2}],"stem":{"activation":"hswish","out_channels":8,"stride":1},"version":1}',7.53445558196410791751e-01,5.431936,5431936,288258,7.53445558196410791751e-01,0,1,NULL,NULL,'{"stage1.depth": 1, "stage1.channels": 8, "stage1.kernel": 5, "stage1.expansion": 1.0, "stage1.se": true, "stage1.activation": "relu", "stage2.depth": 1, "stage2.channels": 16, "stage2.kernel": 3, "stage2.expansion": 6.0, "stage2.se": true, "stage2.activation": "hswish", "stage3.depth": 3, "stage3.channels": 32, "stage3.kernel": 3, "stage3.expansion": 3.0, "stage3.se": false, "stage3.activation": "hswish", "stage4.depth": 3, "stage4.channels": 32, "stage4.kernel": 7, "stage4.expansion": 3.0, "stage4.se": true, "stage4.activation": "hswish", "stage5.depth": 2, "stage5.channels": 48, "stage5.kernel": 7, "stage5.expansion": 3.0, "stage5.se": true, "stage5.activation": "relu"}','67c76094ef63eeb2697f933d395ae1fd',0,NULL,NULL,NULL,NULL,NULL,'2026-11-28 22:56:09.745600','2026-11-28 22:56:09.879120',0.13352,245760,NULL);
INSERT INTO "trials" VALUES(31,3,5,'blocks','complete','feasible-first','69b12adc1a9f57a8','{"head":{"activation":"hswish","conv_channels":288,"hidden_channels":512},"in_channels":1,"num_classes":10,"resolution":32,"stages":[{"blocks":[{"activation":"relu","expanded_channels":24,"kernel_size":3,"use_se":true}],"out_channels":8,"stride":1},{"blocks":[{"activation":"relu","expanded_channels":40,"kernel_size":3,"use_se":true},{"activation":"relu","expanded_channels":72,"kernel_size":3,"use_se":true},{"activation":"relu","expanded_channels":72,"kernel_size":3,"use_se":true}],"out_channels":16,"stride":2},{"blocks":[{"activation":"relu","expanded_channels":48,"kernel_size":3,"use_se":true},{"activation":"relu","expanded_channels":48,"kernel_size":3,"use_se":true}],"out_channels":16,"stride":2},{"blocks":[{"activation":"relu","expanded_channels":96,"kernel_size":5,"use_se":true}],"out_channels":40,"stride":1},{"blocks":[{"activation":"hswish","expanded_channels":120,"kernel_size":7,"use_se":true}],"out_channels":64,"stride":2}],"stem":{"activation":"hswish","out_channels":8,"stride":1},"version":1}',7.51206116383855815321e-01,4.67584,4675840,237170,7.51206116383855815321e-01,0,1,NULL,NULL,'{"stage1.depth": 1, "stage1.channels": 8, "stage1.kernel": 3, "stage1.expansion": 3.0, "stage1.se": true, "stage1.activation": "relu", "stage2.depth": 3, "stage2.channels": 16, "stage2.kernel": 3, "stage2.expansion": 4.5, "stage2.se": true, "stage2.activation": "relu", "stage3.depth": 2, "stage3.channels": 16, "stage3.kernel": 3, "stage3.expansion": 3.0, "stage3.se": true, "stage3.activation": "relu", "stage4.depth": 1, "stage4.channels": 40, "stage4.kernel": 5, "stage4.expansion": 6.0, "stage4.se": true, "stage4.activation": "relu", "stage5.depth": 1, "stage5.channels": 64, "stage5.kernel": 7, "stage5.expansion": 3.0, "stage5.se": true, "stage5.activation": "hswish"}','dd9d01e5f956a03c300466d9cb858835',0,NULL,NULL,NULL,NULL,NULL,'2026-11-28 22:56:10.176954','2026-11-28 22:56:10.292934',0.11598,229376,NULL);
CREATE TABLE validated_networks (
	id INTEGER NOT NULL, 
	validation_id INTEGER NOT NULL, 
	network_group TEXT NOT NULL, 
	arch_id TEXT NOT NULL, 
	architecture TEXT NOT NULL, 
	madds BIGINT NOT NULL, 
	predicted_ms DOUBLE NOT NULL, 
	measured_ms DOUBLE NOT NULL, 
	predicted_cpu_ms DOUBLE NOT NULL, 
	measured_cpu_ms DOUBLE NOT NULL, 
	CONSTRAINT pk_validated_networks PRIMARY KEY (id), 
	CONSTRAINT fk_validated_networks_validation_id_validations FOREIGN KEY(validation_id) REFERENCES validations (id)
);
CREATE TABLE validations (
	id INTEGER NOT NULL, 
	table_id INTEGER NOT NULL, 
	under_load BOOLEAN NOT NULL, 
	drift_wall DOUBLE NOT NULL, 
	drift_cpu DOUBLE NOT NULL, 
	conditions JSON NOT NULL, 
	measured_at DATETIME NOT NULL, 
	CONSTRAINT pk_validations PRIMARY KEY (id), 
	CONSTRAINT fk_validations_table_id_latency_tables FOREIGN KEY(table_id) REFERENCES latency_tables (id)
);
CREATE INDEX ix_latency_tables_device_id ON latency_tables (device_id);
CREATE INDEX ix_trials_evaluation_key ON trials (evaluation_key);
CREATE INDEX ix_exports_search_id ON exports (search_id);
CREATE INDEX ix_network_measurements_search_id_trial ON network_measurements (search_id, trial);
CREATE INDEX ix_log_lines_search_id ON log_lines (search_id);
CREATE VIEW trial_summary AS
SELECT searches.name AS search, trials.number, trials.stage, trials.state, trials.origin, trials.arch_id,
       trials.top1, trials.latency_ms, trials.madds, trials.params_count, trials.reward, searches.target_ms,
       trials.duration_s, trials.images_seen, trials.parent, trials.iteration, trials.error,
       trials.started_at, trials.finished_at, searches.data, devices.name AS device, searches.owner, trials.attempt,
       CASE WHEN trials.reused_from IS NULL THEN 0 ELSE 1 END AS reused,
       CASE WHEN trials.latency_ms <= searches.target_ms THEN 1 ELSE 0 END AS within_target,
       CAST(trials.correct AS DOUBLE PRECISION) / NULLIF(trials.total, 0) AS test_top1
FROM trials
JOIN searches ON searches.id = trials.search_id
LEFT JOIN devices ON devices.id = searches.device_id;
CREATE VIEW pareto_front AS
SELECT search, stage, number, arch_id, top1, latency_ms, madds, params_count, reward
FROM (
    SELECT trial_summary.*,
           MAX(top1) OVER (PARTITION BY search, stage ORDER BY latency_ms) AS highest_top1,
           MIN(latency_ms) OVER (PARTITION BY search, stage, top1) AS lowest_latency_ms
    FROM trial_summary
    WHERE state = 'complete' AND stage IN ('blocks', 'netadapt') AND top1 IS NOT NULL
) AS candidates
WHERE top1 = highest_top1 AND latency_ms = lowest_latency_ms;
CREATE VIEW best_trial AS
SELECT search, number, arch_id, top1, latency_ms, madds, params_count, reward, target_ms
FROM (
    SELECT trial_summary.*, ROW_NUMBER() OVER (PARTITION BY search ORDER BY reward DESC, number) AS place
    FROM trial_summary
    WHERE state = 'complete' AND stage = 'blocks' AND reward IS NOT NULL
) AS candidates
WHERE place = 1;
CREATE VIEW device_coverage AS
WITH finished AS (
    SELECT latency_tables.*,
           ROW_NUMBER() OVER (PARTITION BY device_id, scope ORDER BY finished_at DESC, id DESC) AS place,
           COUNT(*) OVER (PARTITION BY device_id, scope) AS tables
    FROM latency_tables
    WHERE finished_at IS NOT NULL
), errors AS (
    SELECT latency_tables.device_id, latency_tables.scope, COUNT(*) AS networks,
           AVG(ABS(predicted_ms / measured_ms - 1)) * 100 AS mean_pct,
           MAX(ABS(predicted_ms / measured_ms - 1)) * 100 AS max_pct
    FROM network_measurements
    JOIN latency_tables ON latency_tables.id = network_measurements.table_id
    GROUP BY latency_tables.device_id, latency_tables.scope
), users AS (
    SELECT latency_tables.device_id, latency_tables.scope, COUNT(*) AS searches
    FROM searches
    JOIN latency_tables ON latency_tables.id = searches.table_id
    GROUP BY latency_tables.device_id, latency_tables.scope
), sizes AS (
    SELECT table_id, COUNT(*) AS blocks FROM latency_entries GROUP BY table_id
)
SELECT devices.name AS device, devices.processor, devices.threads, devices.runtime_version, devices.fingerprint,
       newest.scope, CAST(newest.tables AS INTEGER) AS tables, newest.id AS newest_table,
       newest.finished_at AS newest_at, CAST(COALESCE(sizes.blocks, 0) AS INTEGER) AS blocks,
       json_extract(newest.calibration, '$.networks') AS calibration_networks, json_extract(newest.calibration, '$.error') * 100 AS calibration_error_pct,
       CAST(COALESCE(users.searches, 0) AS INTEGER) AS searches,
       CAST(COALESCE(errors.networks, 0) AS INTEGER) AS networks_measured,
       errors.mean_pct AS mean_error_pct, errors.max_pct AS max_error_pct
FROM finished AS newest
JOIN devices ON devices.id = newest.device_id
LEFT JOIN sizes ON sizes.table_id = newest.id
LEFT JOIN users ON users.device_id = newest.device_id AND users.scope = newest.scope
LEFT JOIN errors ON errors.device_id = newest.device_id AND errors.scope = newest.scope
WHERE newest.place = 1;
CREATE VIEW certified_exports AS
SELECT searches.name AS search, searches.data, searches.data_hash, devices.name AS device, searches.owner,
       trials.number, trials.origin, trials.arch_id, trials.madds, trials.params_count,
       CAST(trials.correct AS DOUBLE PRECISION) / NULLIF(trials.total, 0) AS test_top1,
       measured.predicted_ms, measured.measured_ms, measured.low_ms, measured.high_ms,
       (measured.predicted_ms / measured.measured_ms - 1) * 100 AS error_pct, searches.target_ms,
       CASE WHEN measured.measured_ms <= searches.target_ms THEN 1 ELSE 0 END AS meets_target,
       exports.folder, exports.created_at AS exported_at
FROM exports
JOIN trials ON trials.id = exports.trial_id
JOIN searches ON searches.id = exports.search_id
JOIN (
    SELECT network_measurements.*,
           ROW_NUMBER() OVER (PARTITION BY search_id, trial ORDER BY measured_at DESC, id DESC) AS place
    FROM network_measurements
) AS measured ON measured.search_id = trials.search_id AND measured.trial = trials.number AND measured.place = 1
LEFT JOIN devices ON devices.id = searches.device_id;
CREATE VIEW leaderboard AS
SELECT data, data_hash, device, search, owner, number, arch_id, test_top1, measured_ms, target_ms, meets_target, madds,
       params_count, exported_at
FROM (
    SELECT certified_exports.*,
           ROW_NUMBER() OVER (
               PARTITION BY data, data_hash, device
               ORDER BY meets_target DESC, test_top1 DESC, measured_ms, exported_at
           ) AS place
    FROM certified_exports
    WHERE origin = 'found' AND test_top1 IS NOT NULL
) AS candidates
WHERE place = 1;
CREATE VIEW trial_blocks AS
SELECT searches.name AS search, trials.number,
       stages.key + 1 AS stage_index, blocks.key + 1 AS block_index,
       COALESCE(json_extract(blocks.value, '$.kind'), 'inverted_residual') AS kind,
       json_extract(blocks.value, '$.kernel_size') AS kernel_size,
       COALESCE(
           LAG(json_extract(stages.value, '$.out_channels'))
               OVER (PARTITION BY trials.id ORDER BY stages.key, blocks.key),
           json_extract(trials.architecture, '$.stem.out_channels')
       ) AS in_channels,
       json_extract(blocks.value, '$.expanded_channels') AS expanded_channels,
       json_extract(stages.value, '$.out_channels') AS out_channels,
       CASE WHEN blocks.key = 0 THEN json_extract(stages.value, '$.stride') ELSE 1 END AS stride,
       json_extract(blocks.value, '$.use_se') AS use_se,
       json_extract(blocks.value, '$.activation') AS activation
FROM trials
JOIN searches ON searches.id = trials.search_id
JOIN json_each(trials.architecture, '$.stages') AS stages
JOIN json_each(stages.value, '$.blocks') AS blocks;
CREATE INDEX ix_validations_table_id ON validations (table_id);
CREATE INDEX ix_validated_networks_validation_id ON validated_networks (validation_id);
CREATE VIEW search_cost AS
WITH own AS (
    SELECT trials.*,
           CASE WHEN trials.reused_from IS NULL THEN COALESCE(trials.duration_s, 0) / 3600 ELSE 0 END AS hours,
           CASE WHEN trials.reused_from IS NULL THEN trials.images_seen ELSE 0 END AS images,
           COALESCE(source.duration_s, 0) / 3600 AS saved_hours
    FROM trials
    LEFT JOIN trials AS source ON source.id = trials.reused_from
), totals AS (
    SELECT search_id, COUNT(*) AS trials,
           SUM(CASE WHEN state = 'complete' THEN 1 ELSE 0 END) AS complete,
           SUM(CASE WHEN state = 'stopped' THEN 1 ELSE 0 END) AS stopped,
           SUM(CASE WHEN state = 'pruned' THEN 1 ELSE 0 END) AS pruned,
           SUM(CASE WHEN state = 'failed' THEN 1 ELSE 0 END) AS failed,
           SUM(CASE WHEN state = 'running' THEN 1 ELSE 0 END) AS running,
           SUM(CASE WHEN reused_from IS NULL THEN 0 ELSE 1 END) AS reused,
           SUM(images) AS images, SUM(hours) AS hours,
           SUM(CASE WHEN stage = 'blocks' THEN hours ELSE 0 END) AS blocks_hours,
           SUM(CASE WHEN stage = 'netadapt' THEN hours ELSE 0 END) AS netadapt_hours,
           SUM(CASE WHEN stage = 'final' THEN hours ELSE 0 END) AS final_hours,
           SUM(saved_hours) AS saved_hours
    FROM own
    GROUP BY search_id
)
SELECT searches.name AS search, searches.data, devices.name AS device, searches.owner,
       CAST(COALESCE(totals.trials, 0) AS INTEGER) AS trials,
       CAST(COALESCE(totals.complete, 0) AS INTEGER) AS complete,
       CAST(COALESCE(totals.stopped, 0) AS INTEGER) AS stopped,
       CAST(COALESCE(totals.pruned, 0) AS INTEGER) AS pruned,
       CAST(COALESCE(totals.failed, 0) AS INTEGER) AS failed,
       CAST(COALESCE(totals.running, 0) AS INTEGER) AS running,
       CAST(COALESCE(totals.reused, 0) AS INTEGER) AS reused,
       CAST(COALESCE(totals.images, 0) AS BIGINT) AS images_seen,
       CAST(COALESCE(totals.hours, 0) AS DOUBLE PRECISION) AS core_hours,
       CAST(COALESCE(totals.blocks_hours, 0) AS DOUBLE PRECISION) AS blocks_core_hours,
       CAST(COALESCE(totals.netadapt_hours, 0) AS DOUBLE PRECISION) AS netadapt_core_hours,
       CAST(COALESCE(totals.final_hours, 0) AS DOUBLE PRECISION) AS final_core_hours,
       CAST(COALESCE(totals.saved_hours, 0) AS DOUBLE PRECISION) AS saved_core_hours,
       (julianday(COALESCE(searches.finished_at, searches.updated_at)) - julianday(searches.created_at)) * 24 AS wall_hours
FROM searches
LEFT JOIN totals ON totals.search_id = searches.id
LEFT JOIN devices ON devices.id = searches.device_id;
COMMIT;
